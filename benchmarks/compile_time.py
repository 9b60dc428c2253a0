"""How long a build takes: reading and optimizing, code generation cold and from the cache.

    python -m benchmarks.compile_time [--models resnet50] [--precisions int8] [--json out.json]

Batch 1, 224 by 224, seeded random weights, eight calibration rows. Code generation is everything
from the optimized graph to the library and the weights on disk. `CPU` counts the linker too; wall
time is shown because kernels are compiled on all CPUs at once, but it counts what else the machine
does. `optimize` is everything before: reading, passes, and for int8 the calibration runs. `ledger`
is what pricing the model after each pass adds to the time of the passes.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import onnx

from benchmarks.networks import resnet18, resnet50, save
from benchmarks.timing import machine
from gcompile import ir
from gcompile.backends.object_store import ObjectStore
from gcompile.backends.tvm.build import generate
from gcompile.backends.write_artifact import write_artifact
from gcompile.compiler.choose import choose
from gcompile.compiler.job import Job, prepare
from gcompile.compiler.native import Measurer
from gcompile.compiler.stages import Stage, apply_exact_passes

MODELS = {"resnet18": resnet18, "resnet50": resnet50}
ROWS = 8

Seconds = dict[str, float]
T = TypeVar("T")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--precisions", nargs="+", default=["int8", "fp32"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(f"{machine()}; seconds")
    steps = ("optimize", "cold", "warm")
    print(f"{'':16}" + "".join(f"{f'{s} CPU':>14}{'wall':>8}" for s in steps)
          + f"{'MB':>8}{'ledger':>9}")  # fmt: skip
    results = {}
    for name in arguments.models:
        for precision in arguments.precisions:
            with tempfile.TemporaryDirectory() as folder:
                row = measure(Path(folder), name, precision, arguments.threads)
            results[f"{name} {precision}"] = row
            cells = [f"{row[f'{s}_cpu']:14.2f}{row[f'{s}_wall']:8.2f}" for s in steps]
            print(f"{name + ' ' + precision:16}{''.join(cells)}{row['bytes'] / 1e6:8.1f}"
                  f"{row['ledger_share']:9.1%}")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1))


def measure(folder: Path, name: str, precision: str, threads: int) -> Seconds:
    """Build one model: its steps' seconds, and the bytes of the library and its weights."""
    path = folder / f"{name}.onnx"
    save(MODELS[name](), path)
    seconds: Seconds = {}
    job, stage = timed("optimize", seconds, lambda: optimized(path, precision, threads))
    pricing_s = sum(record.pricing_s for record in stage.records)
    seconds["ledger_share"] = pricing_s / sum(record.seconds for record in stage.records)
    store = ObjectStore(folder / "cache")
    for step in ("cold", "warm"):
        (folder / step).mkdir()
        timed(step, seconds, partial(build, job, stage.model, store, folder / step))
    seconds["bytes"] = sum(file.stat().st_size for file in (folder / "warm").iterdir())
    return seconds


def optimized(path: Path, precision: str, threads: int) -> tuple[Job, Stage]:
    """Everything before code generation."""
    given = onnx.load(path, load_external_data=False).graph.input[0]
    shape = [size.dim_value for size in given.type.tensor_type.shape.dim]
    rows = np.random.default_rng(0).standard_normal((ROWS, *shape[1:])).astype(np.float32)
    job = prepare(
        path, "cpu", budget=None, max_drop=0.01, metric="top1", calib={given.name: rows},
        evaluate=None, precision=precision, passes=None, shapes=None, threads=threads, seed=0,
        plugins=(), progress=None,
    )  # fmt: skip
    measurer = Measurer(job, reference=job.model.clone())
    exact = apply_exact_passes(job)
    return job, choose(job, exact, exact, measurer, None).stage


def build(job: Job, model: ir.Model, store: ObjectStore, folder: Path) -> None:
    """Generate code, and write the library and its weights."""
    code = generate(model, job.context.target, job.context.threads, store)
    write_artifact({"cpu": code}, folder, model_name=job.model_name, with_model=False)


def timed(step: str, seconds: Seconds, work: Callable[[], T]) -> T:
    """Do the work and note its seconds, those of child processes included."""
    cpu, wall = sum(os.times()[:4]), time.perf_counter()
    result = work()
    seconds[f"{step}_cpu"] = sum(os.times()[:4]) - cpu
    seconds[f"{step}_wall"] = time.perf_counter() - wall
    return result


if __name__ == "__main__":
    main()
