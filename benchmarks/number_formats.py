"""What narrow number formats cost in accuracy, emulated, on every labelled task.

    python -m benchmarks.number_formats --data DIR [--model NAME=PATH] [--json out.json]

Weights and activations of every product are rounded to the format by `emulate-format`; sums stay
in fp32. ONNX Runtime runs the result: no energy is claimed.
"""

from __future__ import annotations

import json
import sys
import warnings
from dataclasses import asdict, dataclass

import numpy as np

from benchmarks.peers.labelled import Labelled, find_tasks, task_parser
from benchmarks.timing import machine
from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.energy import Roofline
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline
from gcompile.passes.precision import EmulateFormat, NumberFormat
from gcompile.passes.precision.run_rows import batches, run_rows
from gcompile.search import Dataset, read_dataset
from gcompile.targets import load_target


@dataclass(frozen=True)
class Row:
    """A task in one format; None is fp32."""

    task: str
    format: str | None
    accuracy: float
    products: int


def main() -> int:
    parser = task_parser(__doc__.splitlines()[0])
    given = parser.parse_args()
    tasks = find_tasks(given.data, given.model, given.task)
    if not tasks:
        print(f"No labelled tasks in {given.data}: nothing was measured.")
        return 2
    warnings.simplefilter("ignore")
    print(f"{'points from fp32':18}{'fp32':>8}" + "".join(f"{f:>10}" for f in NumberFormat))
    rows = [row for task in tasks for row in measure(task)]
    if given.json:
        found = {"machine": machine(), "rows": [asdict(row) for row in rows]}
        given.json.write_text(json.dumps(found, indent=1))
    return 0


def measure(task: Labelled) -> list[Row]:
    """The task in fp32 and in every format, printed as one line."""
    model = ir.load(task.model)
    calibration = read_dataset(task.calib, model, "calibration")
    evaluation = read_dataset(task.evaluation, model, "evaluation", needs_labels=True)
    ctx = PassContext(
        load_target("cpu"), Roofline(), calibration=calibration.inputs, run=OnnxRuntime()
    )
    canonicalize_pipeline().apply(model, ctx)
    exact = accuracy(model, evaluation)
    print(f"{task.name:18}{exact:>8.4f}", end="", flush=True)
    rows = [Row(task.name, None, exact, 0)]
    for name in NumberFormat:
        emulated = model.clone()
        changed = EmulateFormat(format=name).run(emulated, ctx)
        found = accuracy(emulated, evaluation)
        print(f"{100 * (found - exact):>+10.2f}", end="", flush=True)
        rows.append(Row(task.name, str(name), found, changed))
    print()
    return rows


def accuracy(model: ir.Model, rows: Dataset) -> float:
    """The share of rows whose largest output is the label."""
    assert rows.labels is not None
    run, name = OnnxRuntime(), str(model.graph.outputs[0].name)
    pieces = [run_rows(model, piece, run)[name] for piece in batches(rows.inputs, model, 64)]
    found = np.concatenate(pieces).reshape(len(rows.labels), -1).argmax(axis=1)
    return float((found == rows.labels).mean())


if __name__ == "__main__":
    sys.exit(main())
