"""Tile registers in software, for machines without AMX."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from tvm.tirx import Expr
from tvm.tirx.script import builder


@functools.cache
def load_emulation() -> Callable[[], int]:
    """Load the emulation into the process; returns how many rules kernels have broken so far."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler to build the emulation with")
    source = Path(__file__).with_name("amx_emulation.c")
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "amx_emulation.so"
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source)]
        subprocess.run(command, check=True)
        loaded = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    count: Callable[[], int] = loaded.emulated_faults
    return count


def emulate(name: str, *operands: Expr) -> None:
    """Call the emulation instead of emitting the instruction."""
    builder.evaluate(builder.call_extern("int32", f"emulated_{name}", *operands))
