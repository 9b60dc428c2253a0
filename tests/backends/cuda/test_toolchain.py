"""NVRTC gives machine code without a GPU, and says in one sentence what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcompile.backends.cuda import toolchain
from gcompile.backends.cuda.compile_kernels import compile_kernels
from gcompile.backends.cuda.kernel import Argument, Kernel
from gcompile.backends.cuda.toolchain import Nvrtc, nvrtc
from gcompile.backends.object_store import ObjectStore
from gcompile.errors import BackendUnavailableError, CompileError
from tests.runtime.cuda.conftest import needs_nvrtc

SOURCE = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
KERNEL = Kernel("twice", SOURCE, (1, 1, 1), (32, 1, 1), (Argument("x", "float32", 32),))


@needs_nvrtc
@pytest.mark.parametrize("arch", [75, 80, 86, 87, 89, 90, 100])
def test_every_supported_architecture_gets_machine_code(arch: int) -> None:
    code = nvrtc().compile(SOURCE, "twice", str(arch))
    assert code.cubin.startswith(b"\x7fELF")
    assert f".target sm_{arch}".encode() in code.ptx
    assert 0 < code.registers < 32
    assert (code.spilled_bytes, code.shared_bytes) == (0, 0)


@needs_nvrtc
def test_text_that_is_no_cuda_is_refused_with_the_first_error() -> None:
    with pytest.raises(CompileError, match=r"refused the kernel wrong for sm_80 .*undefined"):
        nvrtc().compile('extern "C" __global__ void wrong() { missing(); }', "wrong", "80")


@needs_nvrtc
def test_an_architecture_that_nvrtc_does_not_know_is_refused() -> None:
    with pytest.raises(BackendUnavailableError, match="and not for sm_30"):
        nvrtc().check(30)


@needs_nvrtc
def test_machine_code_is_found_again_in_the_store(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path)
    first = compile_kernels([KERNEL], 80, nvrtc(), store)
    assert len(list(tmp_path.iterdir())) == 1
    assert compile_kernels([KERNEL], 80, _Silent(nvrtc().path), store) == first


@needs_nvrtc
def test_a_kernel_for_newer_gpus_is_no_kernel_for_older_ones() -> None:
    newer = Kernel("new", SOURCE, (1, 1, 1), (1, 1, 1), (), least_arch=90)
    with pytest.raises(CompileError, match="needs sm_90 and the target is sm_80"):
        compile_kernels([newer], 80, nvrtc(), None)


def test_without_nvrtc_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "_candidates", lambda: iter(()))
    nvrtc.cache_clear()
    try:
        with pytest.raises(BackendUnavailableError, match=r"pip install 'gcompile\[cuda\]'"):
            nvrtc()
    finally:
        nvrtc.cache_clear()


class _Silent(Nvrtc):
    """Must not be asked to compile."""

    def compile(self, source: str, name: str, arch: str) -> toolchain.MachineCode:
        raise AssertionError(name)
