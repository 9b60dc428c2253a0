"""Pruning without training: accuracy against energy, from the all-int8 build on.

    python -m benchmarks.pruning --data DIR [--json out.json]

DIR holds cifar_resnet20.onnx, .calib.npz and .eval.npz, and ad01_autoencoder.onnx. Each row is a
whole build with int8 wherever it is possible, run as compiled code on all evaluation rows. The
autoencoder comes without data: it gets frames that it decoded itself from random inputs, and what
counts is the share of its outputs' variance that the build keeps.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np

import gcompile
from benchmarks.timing import machine
from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.search import Metric

CHANNELS = "canonicalize,prune-channels{{ratio={},precision=int8}}"
SAVING = "canonicalize,prune-channels{{saving={},precision=int8}}"
BLOCKS = "canonicalize,prune-blocks{{count={}}}"
PIPELINES = {
    "cifar_resnet20": (
        *(CHANNELS.format(ratio) for ratio in (0.125, 0.25)),
        *(SAVING.format(saving) for saving in (0.1,)),
        *(BLOCKS.format(count) for count in (1, 2)),
    ),
    "ad01_autoencoder": (
        *(CHANNELS.format(ratio) for ratio in (0.125, 0.25)),
        *(SAVING.format(saving) for saving in (0.15, 0.2, 0.25, 0.3)),
    ),
}

Rows = dict[str, ir.Array]


@dataclass(frozen=True)
class Outcome:
    """One build.

    Attributes:
        saved: The share of the all-int8 build's energy that is saved.
        drop: What is lost against that build: of accuracy, or of the share of variance.
    """

    model: str
    how: str
    energy_j: float
    saved: float
    quality: float
    drop: float
    build_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--models", default=",".join(PIPELINES))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    names = [n for n in arguments.models.split(",") if (arguments.data / f"{n}.onnx").is_file()]
    if not names:
        print(f"No models in {arguments.data}: nothing was measured.")
        return 2
    warnings.simplefilter("ignore")
    print(machine())
    rows = [row for name in names for row in measure(arguments.data, name)]
    if arguments.json:
        outcomes = [asdict(row) for row in rows]
        arguments.json.write_text(json.dumps({"machine": machine(), "rows": outcomes}, indent=1))
    return 0


def measure(data: Path, name: str) -> list[Outcome]:
    """Build a model with each pipeline, the first without pruning."""
    calib, evaluate, metric = rows_of(data, name)
    found: list[Outcome] = []
    for passes in ("canonicalize", *PIPELINES[name]):
        start = time.perf_counter()
        report = gcompile.compile(
            data / f"{name}.onnx", precision="int8", calib=calib, evaluate=evaluate,
            metric=metric, passes=passes, max_drop=0.99,
        ).report  # fmt: skip
        assert report.accuracy is not None
        energy, quality = report.energy.after.energy_j, report.accuracy.compiled
        first = found[0] if found else None
        row = Outcome(
            name,
            passes.removeprefix("canonicalize").removeprefix(",") or "int8 alone",
            energy,
            1 - energy / first.energy_j if first else 0.0,
            quality,
            first.quality - quality if first else 0.0,
            time.perf_counter() - start,
        )
        found.append(row)
        print(
            f"{name:18} {row.how:44} {energy * 1e6:8.2f} uJ  saved {row.saved:6.1%}"
            f"  quality {quality:.4f}  drop {row.drop:+.4f}  {row.build_s:4.0f} s",
            flush=True,
        )
    return found


def rows_of(data: Path, name: str) -> tuple[Rows, Rows, str | Metric]:
    """Calibration rows, evaluation rows with labels, and the metric."""
    if (data / f"{name}.eval.npz").is_file():
        calib, evaluate = (dict(np.load(data / f"{name}.{k}.npz")) for k in ("calib", "eval"))
        calib.pop("labels", None)
        return calib, evaluate, "top1"
    return (*decoded_rows(data / f"{name}.onnx"), kept_variance)


def decoded_rows(path: Path, calib: int = 512, evaluate: int = 512) -> tuple[Rows, Rows]:
    """Frames that an autoencoder makes of noise, with some noise on them; outputs as labels."""
    model = ir.load(path)
    source, runner = model.graph.inputs[0], OnnxRuntime()
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((calib + evaluate, *ir.static_shape(source)[1:]))
    spread = rng.uniform(0.5, 20.0, (calib + evaluate, 1))
    name = str(source.name)
    frames = next(iter(runner(model, {name: (noise * spread).astype(np.float32)}).values()))
    frames = frames + 0.1 * frames.std() * rng.standard_normal(frames.shape)
    inputs = frames.astype(np.float32)
    labels = next(iter(runner(model, {name: inputs[calib:]}).values()))
    return {name: inputs[:calib]}, {name: inputs[calib:], "labels": labels}


def kept_variance(outputs: Rows, labels: ir.Array) -> float:
    """One less the mean square error as a share of the variance of what is expected."""
    wanted = np.asarray(labels, np.float64)
    got = np.asarray(next(iter(outputs.values())), np.float64)
    return float(1 - ((got - wanted) ** 2).sum() / ((wanted - wanted.mean(axis=0)) ** 2).sum())


if __name__ == "__main__":
    sys.exit(main())
