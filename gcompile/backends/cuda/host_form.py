"""Kernels as functions of this machine's CPU, compiled from the very text that a GPU gets.

Blocks run one after the other, and so do the threads of each phase of a block (see `prelude`).
What this checks is everything that does not depend on threads running at once: indices, guards,
launch sizes, arithmetic, the order of arguments, and the places of values in memory.
"""

from __future__ import annotations

import ctypes
import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from gcompile.backends.cuda.kernel import Buffer, CpuForm, Kernel
from gcompile.backends.cuda.tensor_ir.prelude import C_TYPES
from gcompile.errors import BackendUnavailableError, CompileError

_COMPILERS = ("g++", "clang++", "c++")
_OPTIONS = ("-x", "c++", "-std=c++17", "-O2", "-fPIC", "-shared", "-fno-math-errno", "-w")


@dataclass(frozen=True)
class _Compiled:
    """The entry of one kernel in a loaded library."""

    kernel: Kernel
    entry: ctypes._NamedFuncPointer

    def __call__(self, buffers: Sequence[Buffer]) -> None:
        addresses = (ctypes.c_uint64 * len(buffers))(*(b.ctypes.data for b in buffers))
        start, size = ctypes.addressof(addresses), ctypes.sizeof(ctypes.c_uint64)
        places = (start + size * index for index in range(len(buffers)))
        self.entry((ctypes.c_void_p * len(buffers))(*places))


def host_forms(kernels: Iterable[Kernel]) -> dict[str, CpuForm]:
    """The CPU form of each kernel, by its name: its own, or one compiled from its text.

    Raises:
        BackendUnavailableError: There is no C++ compiler here.
        CompileError: A kernel's text is no C++.
    """
    distinct = {kernel.name: kernel for kernel in kernels}
    forms = {name: kernel.cpu for name, kernel in distinct.items() if kernel.cpu is not None}
    texts = [kernel for kernel in distinct.values() if kernel.cpu is None]
    if texts:
        with tempfile.TemporaryDirectory(prefix="gcompile-") as folder:
            library = ctypes.CDLL(str(build_library(texts, Path(folder))))
        for kernel in texts:
            forms[kernel.name] = _Compiled(kernel, getattr(library, _entry(kernel)))
    return forms


def why_unavailable() -> str:
    """Why text cannot be compiled for this CPU; empty where it can."""
    return "" if _compiler() else f"none of the C++ compilers {', '.join(_COMPILERS)} is installed"


def build_library(kernels: Sequence[Kernel], folder: Path) -> Path:
    """Compile the text of kernels into a library of a folder.

    The function `run_NAME` runs all blocks of the kernel NAME. It takes its arguments as the
    driver does: an array of the addresses at which they are.

    Raises:
        BackendUnavailableError: There is no C++ compiler here.
        CompileError: A kernel's text is no C++.
    """
    compiler = _compiler()
    if compiler is None:
        raise BackendUnavailableError(
            f"Checking CUDA kernels on the CPU needs a C++ compiler, and {why_unavailable()}; "
            "install the system package g++."
        )
    text = "\n".join(kernel.source + _caller(kernel) for kernel in kernels)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    source, library = folder / "kernels.cpp", folder / f"kernels-{digest}.so"
    source.write_text(text)
    command = [compiler, *_OPTIONS, str(source), "-o", str(library)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line]
        raise CompileError(
            f"The text of a CUDA kernel is no C++ ({(lines or ['?'])[0][:300]}); please "
            "report this model as a bug."
        )
    return library


def _caller(kernel: Kernel) -> str:
    """A function that runs all blocks of a kernel."""
    casts = ", ".join(
        f"*({C_TYPES[argument.dtype]}**)arguments[{index}]"
        for index, argument in enumerate(kernel.arguments)
    )
    x, y, z = kernel.grid
    return (
        f'\nextern "C" void {_entry(kernel)}(void** arguments) {{\n'
        f"  blockDim = {{{', '.join(map(str, kernel.block))}}};\n"
        f"  for (blockIdx.z = 0; blockIdx.z < {z}; ++blockIdx.z)\n"
        f"    for (blockIdx.y = 0; blockIdx.y < {y}; ++blockIdx.y)\n"
        f"      for (blockIdx.x = 0; blockIdx.x < {x}; ++blockIdx.x)\n"
        f"        {kernel.name}({casts});\n"
        "}\n"
    )


def _entry(kernel: Kernel) -> str:
    return f"run_{kernel.name}"


def _compiler() -> str | None:
    return next(filter(None, map(shutil.which, _COMPILERS)), None)
