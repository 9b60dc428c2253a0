"""CPU time of calls that come one by one, and of the workers that wait for more after each.

    python -m benchmarks.calls_apart [--network mobilenet-v1-1.0-224] [--threads 2] [--calls 10]

The same artefact runs in a process of its own for each way to wait: as gcompile sets it, and as
TVM has it by default.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import gcompile
from benchmarks.networks import network, save
from benchmarks.timing import machine

_REST_S = 0.5
_VARIABLE = "TVM_THREAD_POOL_SPIN_COUNT"
_WAYS = {"gcompile": None, "TVM's default": "300000"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", default="mobilenet-v1-1.0-224")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--artefact", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.artefact:
        _time_calls(arguments.artefact, arguments.calls)
        return
    print(f"{machine()}, {arguments.network}, fp32, {arguments.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save(network(arguments.network), path)
        built = f"{folder}/built"
        gcompile.compile(path, output=built, threads=arguments.threads, cache=False)
        for name, spins in _WAYS.items():
            environment = {k: v for k, v in os.environ.items() if k != _VARIABLE}
            environment |= {_VARIABLE: spins} if spins else {}
            command = [sys.executable, "-m", "benchmarks.calls_apart", "--artefact", built]
            command += ["--calls", str(arguments.calls)]
            shown = subprocess.run(command, env=environment, check=True, capture_output=True)
            print(f"{name:14} {shown.stdout.decode().strip()}")


def _time_calls(artefact: str, calls: int) -> None:
    runner = gcompile.runtime.load(artefact)
    call = runner.prepare({spec.name: np.ones(spec.shape, spec.dtype) for spec in runner.inputs})
    call()
    wall, during, after = [], [], []
    for _ in range(calls):
        time.sleep(_REST_S)
        start, cpu = time.perf_counter(), time.process_time()
        call()
        wall.append(time.perf_counter() - start)
        returned = time.process_time()
        during.append(returned - cpu)
        time.sleep(_REST_S)
        after.append(time.process_time() - returned)
    names = ("ms wall", "ms CPU", "ms CPU after it")
    medians = (statistics.median(samples) * 1e3 for samples in (wall, during, after))
    print(", ".join(f"{ms:.2f} {name}" for ms, name in zip(medians, names, strict=True)))


if __name__ == "__main__":
    main()
