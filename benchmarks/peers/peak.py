"""What one core of this machine really computes: independent multiply-adds in registers.

A loop in C with enough accumulators to hide the latency is compiled for this machine and timed in
CPU time. Tile units are measured where the compiler and the system let a process use them.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import time
from pathlib import Path

_SOURCE = Path(__file__).with_name("peak.c")
_STEPS = 200_000
_ROUNDS = 15

PRECISIONS = ("fp32", "bf16", "int8")


def measured_peaks(folder: Path) -> dict[str, float]:
    """Operations per CPU second of one core, by precision; what cannot be measured is left out."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        print("No C compiler: the machine's peak is not measured.")
        return {}
    library = folder / "peak.so"
    command = [compiler, "-O2", "-march=native", "-mprefer-vector-width=512", "-shared", "-fPIC"]
    done = subprocess.run(
        [*command, str(_SOURCE), "-o", str(library)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        print(f"The machine's peak is not measured: {done.stderr.splitlines()[0]}")
        return {}
    loaded = ctypes.CDLL(str(library))
    found = {name: _best(loaded, f"peak_{name}") for name in PRECISIONS}
    return {name: rate for name, rate in found.items() if rate}


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
