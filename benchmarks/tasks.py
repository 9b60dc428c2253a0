"""Real trained models through the whole road: agreement, energy and accuracy.

    python -m benchmarks.tasks --data DIR [--budget -50%] [--json out.json]

DIR holds NAME.onnx, NAME.calib.npz and NAME.eval.npz. Two tables: every model built without a
budget, held against ONNX Runtime running the file as it was given; and every model with labelled
rows built under the budget, with the accuracy of the compiled code on all evaluation rows.
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
import onnxruntime
from numpy.typing import NDArray

import gcompile
from benchmarks.timing import machine
from gcompile.backends.verify import seeded_inputs

SHAPES: dict[str, dict[str, tuple[int, ...]]] = {"silero_vad_ifless": {"input": (1, 512)}}
MODELS = (
    "cntk_mnist_cnn", "cifar_resnet20", "ic01_resnet8", "kws01_dscnn_f32", "ad01_autoencoder",
    "winml_iris_mlp", "digits_mlp", "squeezenet_fp16", "magika_standard", "silero_vad_ifless",
)  # fmt: skip
LABELLED = ("cntk_mnist_cnn", "cifar_resnet20", "ic01_resnet8", "kws01_dscnn_f32", "digits_mlp")


@dataclass(frozen=True)
class Agreement:
    """One model without a budget: the largest error as a share of the output's range."""

    model: str
    error: float
    build_s: float
    fallbacks: int


@dataclass(frozen=True)
class Outcome:
    """One model under a budget."""

    model: str
    status: str
    exact_j: float
    limit_j: float
    after_j: float
    reference: float
    compiled: float
    rows: int
    build_s: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--budget", default="-50%")
    parser.add_argument("--max-drop", default="1%")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if not (arguments.data / f"{MODELS[0]}.onnx").is_file():
        print(f"No models in {arguments.data}: nothing was measured.")
        return 2
    warnings.simplefilter("ignore")
    print(machine())
    agreements = [print_agreement(agree(arguments.data, name)) for name in MODELS]
    print()
    outcomes = [
        print_outcome(build(arguments.data, name, arguments.budget, arguments.max_drop))
        for name in LABELLED
    ]
    if arguments.json:
        data = {
            "agreement": [asdict(row) for row in agreements],
            "budget": [asdict(row) for row in outcomes],
        }
        arguments.json.write_text(json.dumps({"machine": machine(), **data}, indent=1))
    return 0


def agree(data: Path, name: str) -> Agreement:
    """Build a model as it is and compare it with ONNX Runtime on seeded inputs."""
    path = data / f"{name}.onnx"
    start = time.perf_counter()
    compiled = gcompile.compile(path, shapes=SHAPES.get(name), cache=False)
    seconds = time.perf_counter() - start
    inputs = seeded_inputs(compiled.model, seed=1)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    wanted = session.run(None, inputs)
    got = compiled.artifact.run(inputs)
    names = [output.name for output in session.get_outputs()]
    errors = [relative_error(got[n], w) for n, w in zip(names, wanted, strict=True)]
    return Agreement(name, max(errors), seconds, len(compiled.report.fallbacks))


def relative_error(got: NDArray[np.generic], wanted: NDArray[np.generic]) -> float:
    """The largest error as a share of the largest output."""
    expected = np.asarray(wanted, np.float64)
    difference = np.abs(np.asarray(got, np.float64) - expected)
    return float(difference.max() / max(np.abs(expected).max(), 1e-30))


def build(data: Path, name: str, budget: str, max_drop: str) -> Outcome:
    """Build a model under the budget, and report what the compiled code reaches."""
    start = time.perf_counter()
    report = gcompile.compile(
        data / f"{name}.onnx",
        budget=budget,
        max_drop=max_drop,
        calib=data / f"{name}.calib.npz",
        evaluate=data / f"{name}.eval.npz",
    ).report
    assert report.accuracy is not None
    assert report.budget.energy_j is not None
    return Outcome(
        name,
        report.status,
        report.energy.exact.energy_j,
        report.budget.energy_j,
        report.energy.after.energy_j,
        report.accuracy.reference,
        report.accuracy.compiled,
        report.accuracy.rows,
        time.perf_counter() - start,
    )


def print_agreement(row: Agreement) -> Agreement:
    print(
        f"{row.model:20} error {row.error:8.1e} of the range  built in {row.build_s:5.1f} s"
        f"  regions in generic code: {row.fallbacks}"
    )
    return row


def print_outcome(row: Outcome) -> Outcome:
    saved = 1 - row.after_j / row.exact_j
    exact, after, limit = (f"{j * 1e6:.2f}" for j in (row.exact_j, row.after_j, row.limit_j))
    energy = f"{exact:>8} uJ -> {after:>7} uJ (-{saved:.1%}, allowed {limit})"
    accuracy = f"{row.reference:.4f} -> {row.compiled:.4f} on {row.rows} rows"
    print(f"{row.model:20} {row.status:17} {energy}  accuracy {accuracy}  {row.build_s:.0f} s")
    return row


if __name__ == "__main__":
    sys.exit(main())
