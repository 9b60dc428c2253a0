"""Compile kernels one by one, several at a time, or find them in the store."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from gcompile.backends.cuda.kernel import Kernel
from gcompile.backends.cuda.toolchain import MachineCode, Nvrtc
from gcompile.backends.object_store import ObjectStore
from gcompile.errors import CompileError


def compile_kernels(
    kernels: Sequence[Kernel], arch: int, compiler: Nvrtc, store: ObjectStore | None
) -> list[MachineCode]:
    """Compile kernels for one architecture.

    Args:
        kernels: What to compile.
        arch: 80 for sm_80.
        compiler: NVRTC, which runs outside Python's lock.
        store: Where machine code is kept between builds.

    Returns:
        The code of each kernel, in the same order.

    Raises:
        CompileError: A kernel needs a newer architecture, or its text is wrong.
    """

    def compiled(kernel: Kernel) -> MachineCode:
        if kernel.least_arch > arch:
            raise CompileError(
                f"The kernel {kernel.name} needs sm_{kernel.least_arch} and the target is "
                f"sm_{arch}; please report this model as a bug."
            )
        if kernel.only_arch and arch != int(kernel.only_arch.rstrip("af")):
            raise CompileError(
                f"The kernel {kernel.name} runs on sm_{kernel.only_arch} alone and the target is "
                f"sm_{arch}; please report this model as a bug."
            )
        key = _key(kernel, arch, compiler)
        stored = store.get(key) if store else None
        if stored is not None:
            return _unpacked(stored)
        code = compiler.compile(kernel.source, kernel.name, kernel.only_arch or str(arch))
        if store:
            store.put(key, _packed(code))
        return code

    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        return list(pool.map(compiled, kernels))


def _key(kernel: Kernel, arch: int, compiler: Nvrtc) -> str:
    name = kernel.only_arch or str(arch)
    parts = ("cuda", kernel.name, kernel.source, name, str(compiler.version))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _packed(code: MachineCode) -> bytes:
    figures = [code.registers, code.spilled_bytes, code.shared_bytes, len(code.cubin)]
    return json.dumps(figures).encode() + b"\n" + code.cubin + code.ptx


def _unpacked(stored: bytes) -> MachineCode:
    header, _, content = stored.partition(b"\n")
    registers, spilled, shared, size = json.loads(header)
    return MachineCode(content[:size], content[size:], registers, spilled, shared)
