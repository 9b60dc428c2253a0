"""Kernels are compiled once, and what is found later is what would be compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.tirx import PrimFunc
from tvm.tirx.script import builder as T  # noqa: N812 - how all TVMScript is written

from gcompile.backends.object_store import ObjectStore
from gcompile.backends.tvm.cache import Kernel, kernels
from gcompile.backends.tvm.kernels.function import Argument, Code
from gcompile.backends.tvm.link import link_library
from gcompile.backends.tvm.llvm_target import llvm_target
from gcompile.backends.tvm.pipeline import build_module
from gcompile.runtime.isa import host_platform
from gcompile.targets import load_target
from tests.backends.tvm.kernels.compiling import target
from tests.backends.tvm.regions import calling, parse

_ADD = Argument("x", (64,), "float32"), Argument("y", (64,), "float32")

_REGIONS = """g (float[1,32] x, float[32,32] w) => (float[1,32] y) {
  a = MatMul(x, w)
  b = Softmax <axis = 1> (a)
  y = MatMul(b, w)
}"""

_BUILD = """
import sys
from pathlib import Path
from tests.backends.tvm.cache.test_kernels import built
built(Path(sys.argv[1]), Path(sys.argv[2]))
"""


def adding(number: float) -> Code:
    """A kernel y = x + number."""

    def write(buffers: list[tvm.tirx.Buffer]) -> None:
        x, y = buffers
        with T.serial(0, 64) as index:
            T.buffer_store(y, x[index] + T.float32(number), [index])

    return Code(_ADD, write)


def module(*functions: PrimFunc) -> tvm.IRModule:
    """A module whose `main` calls the functions one after the other."""
    builder = relax.BlockBuilder()
    stored = relax.TensorType((64,), "float32")
    value = x = relax.Var("x", stored)
    with builder.function("main", [x]):
        with builder.dataflow():
            for function in functions:
                added = builder.add_func(function, str(function.attrs["global_symbol"]))
                value = builder.emit(relax.call_tir(added, [value], stored))
            result = builder.emit_output(value)
        builder.emit_func_output(result)
    return builder.get()


def run(code: tvm.IRModule, store: ObjectStore | None) -> float:
    """Compile the module, and what it makes of zeros."""
    machine = relax.VirtualMachine(build_module(code, target(), 1, store).executable, tvm.cpu())
    return float(machine["main"](tvm.runtime.tensor(np.zeros(64, "float32"))).numpy()[0])


def built(library: Path, cache: Path | None) -> bytes:
    """Compile a small network into a file, and its bytes.

    The target is the compiler's own: LLVM keeps options of one target where another has none.
    """
    store = ObjectStore(cache) if cache else None
    code = build_module(calling(parse(_REGIONS)), llvm_target(load_target("cpu"), 2), 2, store)
    link_library(code.executable, library, host_platform())
    return library.read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """An empty store."""
    return ObjectStore(tmp_path / "kernels")


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kernels that were compiled, in place of being found."""
    seen: list[str] = []
    compile_kernel = kernels._Job._compile

    def recorded(job: kernels._Job, kernel: Kernel) -> bytes:
        seen.append(kernel.symbol)
        return compile_kernel(job, kernel)

    monkeypatch.setattr(kernels._Job, "_compile", recorded)
    return seen


def test_the_name_of_a_kernel_tells_its_kind_and_content() -> None:
    named = Kernel.of("adding_12", adding(1).function("adding_12"))
    assert named.symbol == f"adding_{named.content[:16]}"
    assert Kernel.of("adding_3", adding(1).function("adding_3")).symbol == named.symbol
    assert Kernel.of("adding_12", adding(2).function("adding_12")).symbol != named.symbol


def test_equal_kernels_are_compiled_once_and_different_ones_each(compiled: list[str]) -> None:
    functions = adding(1).function("a_1"), adding(2).function("a_2"), adding(1).function("a_3")
    assert run(module(*functions), None) == 4
    assert len(compiled) == 2


def test_a_kernel_is_compiled_once_for_all_builds(store: ObjectStore, compiled: list[str]) -> None:
    assert run(module(adding(1).function("a_0")), store) == 1
    assert run(module(adding(1).function("a_0")), store) == 1
    assert run(module(adding(5).function("a_0"), adding(1).function("a_1")), store) == 6
    assert len(compiled) == 2


def test_without_a_store_every_build_compiles(compiled: list[str]) -> None:
    for _ in range(2):
        run(module(adding(1).function("a_0")), None)
    assert len(compiled) == 2


def test_another_target_has_kernels_of_its_own(store: ObjectStore, compiled: list[str]) -> None:
    code = module(adding(1).function("a_0"))
    for machine in (target(), target("x86-64", ("+sse4.1",)), target()):
        build_module(code, machine, 1, store)
    assert len(compiled) == 2


def test_another_version_of_the_compiler_has_kernels_of_its_own(
    store: ObjectStore, compiled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = module(adding(1).function("a_0"))
    build_module(code, target(), 1, store)
    monkeypatch.setattr(kernels, "version", lambda package: "99")
    build_module(code, target(), 1, store)
    assert len(compiled) == 2


def test_a_damaged_entry_is_compiled_again(store: ObjectStore, compiled: list[str]) -> None:
    code = module(adding(1).function("a_0"))
    run(code, store)
    for entry in store.folder.iterdir():
        entry.write_bytes(entry.read_bytes()[:-8])
    assert run(code, store) == 1
    assert len(compiled) == 2
    assert run(code, store) == 1
    assert len(compiled) == 2


def test_the_store_is_trimmed_after_a_build(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "kernels", limit_bytes=1)
    assert run(module(adding(1).function("a_0")), store) == 1
    assert list(store.folder.iterdir()) == []


def test_bytes_are_the_same_with_and_without_the_cache_and_in_every_process(
    tmp_path: Path,
) -> None:
    cache = tmp_path / "cache"
    command = [sys.executable, "-c", _BUILD]
    paths = [tmp_path / "first.so", tmp_path / "second.so"]
    running = [
        subprocess.Popen([*command, str(path), str(cache)], cwd=Path(__file__).parents[4])
        for path in paths
    ]
    assert [process.wait(timeout=120) for process in running] == [0, 0]
    without = built(tmp_path / "without.so", None)
    warm = built(tmp_path / "warm.so", cache)
    assert os.listdir(cache)
    assert without == warm == paths[0].read_bytes() == paths[1].read_bytes()
