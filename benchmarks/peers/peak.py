"""What one core of this machine really computes, and how fast it reads memory.

A loop in C of independent multiply-adds in registers, with enough accumulators to hide their
latency, is compiled for this machine and timed in CPU time. Tile units are measured where the
compiler and the system let a process use them. Another loop reads a block of memory in order.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

_SOURCE = Path(__file__).with_name("peak.c")
_STEPS = 200_000
_ROUNDS = 15
_PAGE_BYTES = 4096

PRECISIONS = ("fp32", "bf16", "int8")


def measured_peaks(folder: Path) -> dict[str, float]:
    """Operations per CPU second of one core, by precision; what cannot be measured is left out."""
    loaded = _library(folder)
    if loaded is None:
        return {}
    found = {name: _best(loaded, f"peak_{name}") for name in PRECISIONS}
    return {name: rate for name, rate in found.items() if rate}


def stream_reader(folder: Path, size_bytes: int, threads: int = 1) -> Callable[[], None] | None:
    """A call that reads so many bytes of memory in order, once; None without a C compiler.

    Args:
        folder: Where the loop is compiled.
        size_bytes: Rounded up to whole pages for each thread.
        threads: Each reads its share.
    """
    loaded = _library(folder)
    if loaded is None:
        return None
    share = -(-size_bytes // threads // _PAGE_BYTES) * _PAGE_BYTES
    memory = np.ones(share * threads + _PAGE_BYTES, np.uint8)
    start = memory.ctypes.data + -memory.ctypes.data % _PAGE_BYTES
    length = ctypes.c_long(share)
    pointers = [ctypes.c_void_p(start + index * share) for index in range(threads)]
    pool = ThreadPoolExecutor(threads)

    def read(kept: np.ndarray = memory) -> None:
        others = [pool.submit(loaded.read_stream, p, length) for p in pointers[1:]]
        loaded.read_stream(pointers[0], length)
        for other in others:
            other.result()

    return read


def _library(folder: Path) -> ctypes.CDLL | None:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        print("No C compiler: the machine's peak is not measured.")
        return None
    library = folder / "peak.so"
    command = [compiler, "-O2", "-march=native", "-mprefer-vector-width=512", "-shared", "-fPIC"]
    done = subprocess.run(
        [*command, str(_SOURCE), "-o", str(library)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"The machine's peak is not measured: {done.stderr.splitlines()[0]}")
        return None
    return ctypes.CDLL(str(library))


def _best(library: ctypes.CDLL, name: str) -> float:
    """The best of some rounds: whatever else runs only makes them slower."""
    function = getattr(library, name)
    function.restype, function.argtypes = ctypes.c_double, [ctypes.c_long]
    best = 0.0
    for _ in range(_ROUNDS):
        start = time.process_time()
        operations = function(_STEPS)
        best = max(best, operations / (time.process_time() - start))
    return best
