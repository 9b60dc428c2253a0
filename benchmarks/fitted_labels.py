"""What labels beside the calibration rows are worth, over many ways to draw them.

    python -m benchmarks.fitted_labels --data DIR [--share 0.33] [--draws 12]

DIR holds NAME.onnx and NAME.eval.npz. A share of the evaluation rows, drawn at random, is given
with its labels to `fit-bias` and to `fit-classifier`; the float model that they change is held
against the one they were given, on the other rows, in ONNX Runtime. Gains are in points of top-1.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.labelled import Labelled, find_tasks, task_parser
from benchmarks.timing import machine
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.compiler.sources import load_model
from gcompile.ir import Model
from gcompile.passes import Arrays, Pass
from gcompile.passes.labels.fit_bias import FitBias
from gcompile.passes.labels.fit_classifier import FitClassifier
from gcompile.passes.pipelines import canonicalize_pipeline
from gcompile.testing import example_context

FITS: tuple[Pass, ...] = (FitBias(), FitClassifier())

Right = NDArray[np.bool_]


@dataclass(frozen=True)
class Row:
    """One pass on one task.

    Attributes:
        labelled: Rows with labels that it was given.
        gains: On the other rows, in points of top-1, draw by draw.
        declined: Draws in which it left the model as it was.
    """

    task: str
    fit: str
    labelled: int
    gains: tuple[float, ...]
    declined: int


def main() -> int:
    parser = task_parser(__doc__.splitlines()[0])
    parser.add_argument("--share", type=float, default=0.33)
    parser.add_argument("--draws", type=int, default=12)
    given = parser.parse_args()
    tasks = find_tasks(given.data, given.model, given.task)
    if not tasks:
        print(f"No labelled tasks in {given.data}: nothing was measured.")
        return 2
    print(machine())
    print(f"{'task':20} {'pass':16} {'labelled':>8} {'mean':>7} {'worst':>7} {'declined':>9}")
    rows = []
    for task in tasks:
        for fit in FITS:
            rows.append(measure(task, fit, given.share, given.draws))
            show(rows[-1])
    if given.json:
        Path(given.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


def measure(task: Labelled, fit: Pass, share: float, draws: int) -> Row:
    """Fit anew for each draw."""
    inputs = dict(np.load(task.evaluation))
    labels = inputs.pop("labels")
    run = OnnxRuntime()
    before = _right(load_model(task.model, None)[0], inputs, labels, run)
    count = round(share * len(labels))
    gains, declined = [], 0
    for draw in range(draws):
        order = np.random.default_rng(draw).permutation(len(labels))
        seen, others = order[:count], order[count:]
        model, _ = load_model(task.model, None)
        rows = _some(inputs, seen, len(labels))
        context = replace(example_context(calibration=rows), labels=labels[seen], run=run)
        canonicalize_pipeline().apply(model, context)
        declined += not fit.apply(model, context).changed
        after = _right(model, _some(inputs, others, len(labels)), labels[others], run)
        gains.append(100 * float(after.mean() - before[others].mean()))
    return Row(task.name, fit.name, count, tuple(gains), declined)


def show(row: Row) -> None:
    print(
        f"{row.task:20} {row.fit:16} {row.labelled:8} {np.mean(row.gains):+7.2f} "
        f"{min(row.gains):+7.2f} {row.declined:6} of {len(row.gains)}",
        flush=True,
    )


def _some(inputs: Arrays, rows: NDArray[np.int64], count: int) -> dict[str, NDArray[np.generic]]:
    return {name: array[rows] if len(array) == count else array for name, array in inputs.items()}


def _right(model: Model, inputs: Arrays, labels: NDArray[np.generic], run: OnnxRuntime) -> Right:
    scores = next(iter(run.run_rows(model, inputs).values())).reshape(len(labels), -1)
    return np.asarray(scores.argmax(axis=1) == labels, np.bool_)


if __name__ == "__main__":
    raise SystemExit(main())
