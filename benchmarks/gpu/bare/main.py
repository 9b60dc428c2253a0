"""Run an archive's cases on the GPU here; write JSON after every row, and tables at the end.

    python run.py [--device 0] [--seconds 450] [--json results.json] [--only WORD] [--again]

Needs Python, numpy and an NVIDIA driver. PyTorch, ONNX Runtime and TensorRT are measured where
they are installed. A run that is stopped goes on where it was. Exit codes: 0 everything that could
run passed, 1 something failed, 4 there is no GPU here.
"""

from __future__ import annotations

import argparse
import platform
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.bare.case import Case, Row, read_cases, read_rows, write_rows
from benchmarks.gpu.bare.run_cases import Clock, run_cases
from benchmarks.gpu.bare.tables import tables
from gcompile.errors import BackendUnavailableError, RunError
from gcompile.runtime.cuda.driver import driver
from gcompile.runtime.cuda.nvml import nvml

FAILED, NO_GPU = 1, 4


def main(folder: Path) -> int:
    """Run what is asked for on the command line.

    Args:
        folder: The archive, unpacked.
    """
    arguments = _parse()
    if reason := why_no_gpu(arguments.device):
        print(f"Nothing can be run here: {reason}.")
        return NO_GPU
    cases = [c for c in read_cases(folder / "cases.json") if arguments.only in c.name]
    limits = arguments.seconds, arguments.device, arguments.again
    return run_all(cases, folder, arguments.json, limits)


def run_all(
    cases: Sequence[Case],
    folder: Path,
    out: Path,
    limits: tuple[float, int, bool],
    known: Sequence[Row] = (),
) -> int:
    """Run cases and tell of them; returns the exit code.

    Args:
        cases: In the order in which they run.
        folder: What their settings are relative to.
        out: The JSON file; what an earlier run wrote there is kept.
        limits: Seconds that everything may take, which GPU, and whether what failed is run again.
        known: Results of cases that need no running, such as those that could not be built.
    """
    seconds, device, again = limits
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # Workers end with it.
    facts = machine(device)
    print(", ".join(f"{key} {value}" for key, value in facts.items()), flush=True)
    names = {case.name for case in cases}
    told = {row.case for row in known}
    read = (row for row in read_rows(out) if row.case not in told)
    earlier = [*known, *(row for row in read if row.status != "left out")]
    if again:
        failed = {row.case for row in earlier if row.status == "failed"} & names
        earlier = [row for row in earlier if row.case not in failed]
    rows = list(earlier)
    clock = Clock(time.monotonic() + seconds)
    for row in run_cases(cases, folder, earlier, clock, device):
        rows.append(row)
        write_rows(out, facts, rows)
        if row.item or row.status != "passed":
            print(f"{row.case} {row.item}: {row.status} {row.reason}".rstrip(), flush=True)
    print("\n" + tables(cases, rows))
    counted = Counter(row.status for row in rows if row.item or row.status != "passed")
    print("\n" + ", ".join(f"{number} {status}" for status, number in counted.items()))
    print(f"Written to {out}")
    return FAILED if counted["failed"] else 0


def why_no_gpu(device: int) -> str:
    """Why nothing can run on a GPU here; empty where it can."""
    try:
        driver().device(device)
    except (BackendUnavailableError, RunError) as error:
        return str(error).rstrip(".")
    return ""


def machine(device: int) -> dict[str, Any]:
    """What figures are of: the card, its limits and the software."""
    found = driver()
    card = found.device(device)
    facts: dict[str, Any] = {
        "gpu": card.name,
        "architecture": f"sm_{card.major}{card.minor}",
        "cuda": found.version,
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
    try:
        shown = nvml().card(found.bus_id(device))
        limits = shown.limits
        facts |= {"power_limit_w": limits.now, "lowest_power_limit_w": limits.lowest}
        facts["clock_mhz"] = shown.clock_hz / 1e6
    except (BackendUnavailableError, RunError) as error:
        facts["nvml"] = str(error)
    return facts


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", type=int, default=0, help="which GPU, as the driver counts")
    parser.add_argument("--seconds", type=float, default=450.0, help="how long all may take")
    parser.add_argument("--json", type=Path, default=Path("results.json"))
    parser.add_argument("--only", default="", help="cases whose names contain this")
    parser.add_argument("--again", action="store_true", help="run cases that failed once more")
    return parser.parse_args()
