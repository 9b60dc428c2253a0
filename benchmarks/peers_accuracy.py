"""Accuracy at equal joules, and joules at equal accuracy: gcompile beside other quantizers.

    python -m benchmarks.peers_accuracy --data DIR [--target cpu] [--prune]
        [--peer-python [TOOL=]PYTHON]

Every model is priced by the same estimate for the same target, that of another tool as the Q/DQ
file it wrote. Ours are the points of one sweep, measured as compiled code; NNCF's are `quantize`
and its accuracy control at several drops; those of ONNX Runtime and of Intel Neural Compressor for
ONNX are their static quantization. Two tables: the best accuracy within five budgets from 5 % to
100 % of fp32, and, for every point of another tool, the joules that we need for no more loss. A
dash says that nothing fits.

With `--labelled SHARE` that share of the evaluation rows takes the place of the calibration rows,
and our compiler fits the last product of the classifier to their labels; everything is judged on
the other rows. The other tools calibrate as without it, and may still choose by the rows they are
judged on.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import gcompile
from benchmarks.peers.labelled import (
    Labelled,
    accuracy_of,
    find_tasks,
    interpreters,
    peer_point,
    task_parser,
    with_labels,
)
from benchmarks.timing import machine
from gcompile.compiler.sweep import sweep
from gcompile.errors import GcompileError

BUDGETS = (0.05, 0.1, 0.25, 0.5, 1.0)
DROPS = (0.002, 0.01)
OURS = "gcompile"
FITTED = "canonicalize,fit-classifier"


@dataclass(frozen=True)
class Measured:
    """One quantized model of one task.

    Attributes:
        share: Its joules as a share of those of fp32 with exact passes; None where not priced.
        note: Why something is missing.
    """

    task: str
    tool: str
    way: str
    accuracy: float | None
    share: float | None
    note: str = ""


def main() -> int:
    parser = task_parser(__doc__.splitlines()[0])
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--points", type=int, default=8)
    parser.add_argument("--prune", action="store_true", help="Let our points be pruned too.")
    parser.add_argument("--labelled", type=float, default=0.0, metavar="SHARE")
    given = parser.parse_args()
    tasks = find_tasks(given.data, given.model, given.task)
    if not tasks:
        print(f"No labelled tasks in {given.data}: nothing was measured.")
        return 2
    warnings.simplefilter("ignore")
    print(machine())
    with tempfile.TemporaryDirectory() as folder:
        found = [point for task in tasks for point in measured(task, given, Path(folder))]
    if given.json:
        data = {"machine": machine(), "target": given.target, "points": [asdict(p) for p in found]}
        given.json.write_text(json.dumps(data, indent=1))
    return 0


def measured(task: Labelled, given: argparse.Namespace, folder: Path) -> list[Measured]:
    """All points of one task, printed; `folder` takes rows that are split."""
    mine, passes = task, None
    if given.labelled:
        mine, passes = with_labels(task, given.labelled, folder), FITTED
    judged = replace(task, evaluation=mine.evaluation)
    reference = accuracy_of(judged.model, judged.evaluation)
    exact_j = gcompile.estimate(task.model, given.target).total.energy_j
    points = [
        *ours(mine, given.target, exact_j, given.points, prune=given.prune, passes=passes),
        *theirs(judged, given.target, exact_j, interpreters(given.peer_python)),
    ]
    print_task(task.name, reference, points)
    return points


def ours(
    task: Labelled, target: str, exact_j: float, points: int, *, prune: bool, passes: str | None
) -> list[Measured]:
    """The points of a sweep."""
    try:
        report = sweep(
            task.model, target, points=points, calib=task.calib, evaluate=task.evaluation,
            prune=prune, passes=passes,
        )  # fmt: skip
    except GcompileError as error:
        return [Measured(task.name, OURS, "sweep", None, None, f"failed: {error!s:.100}")]
    return [
        Measured(task.name, OURS, str(p.precisions), p.accuracy, p.energy_j / exact_j)
        for p in report.points
    ]


def theirs(
    task: Labelled, target: str, exact_j: float, pythons: Mapping[str, str]
) -> list[Measured]:
    """What the other tools make, each as often as it has a dial to turn."""
    ways: list[tuple[str, str, float | None]] = [
        ("onnxruntime", "onnxruntime", None),
        ("neural-compressor", "neural-compressor", None),
        ("nncf", "nncf", None),
        *(("nncf", "nncf-accuracy", drop) for drop in DROPS),
    ]
    found = []
    for tool, peer, drop in ways:
        point = peer_point(peer, task, pythons, drop=drop, target=target)
        way = peer if drop is None else f"{peer} {drop:.1%}"
        share = None if point.energy_j is None else point.energy_j / exact_j
        found.append(Measured(task.name, tool, way, point.accuracy, share, point.note))
    return found


def print_task(name: str, reference: float, points: Sequence[Measured]) -> None:
    """Both tables of one task, and what is missing from them."""
    print(f"\n{name}: {reference:.4f} in fp32")
    tools = (OURS, "nncf", "onnxruntime", "neural-compressor")
    print(f"  {'budget':>8}" + "".join(f"{tool:>18}" for tool in tools))
    for budget in BUDGETS:
        best = [best_within(points, tool, budget, reference) for tool in tools]
        cells = ("-" if accuracy is None else f"{accuracy:.4f}" for accuracy in best)
        print(f"  {budget:>8.0%}" + "".join(f"{cell:>18}" for cell in cells))
    for point in points:
        if point.tool == OURS or point.accuracy is None or point.share is None:
            continue
        needed = least_share(points, point.accuracy, reference)
        print(
            f"  {point.way:20} {point.accuracy:.4f} at {point.share:6.1%} of the joules, "
            f"{OURS} at {needed:6.1%}"
        )
    for point in points:
        if point.note:
            print(f"  {point.way:20} {point.note}")


def best_within(
    points: Sequence[Measured], tool: str, budget: float, reference: float
) -> float | None:
    """The best accuracy of a tool's models within a budget; fp32 needs all of it."""
    within = [
        p.accuracy
        for p in points
        if p.tool == tool and p.accuracy is not None and p.share is not None and p.share <= budget
    ]
    return max([*within, *([reference] if budget >= 1.0 else [])], default=None)


def least_share(points: Sequence[Measured], accuracy: float, reference: float) -> float:
    """Our least joules for an accuracy, which no tool is asked to lift above that of fp32."""
    wanted = min(accuracy, reference)
    fitting = [
        p.share
        for p in points
        if p.tool == OURS and p.share is not None and (p.accuracy or 0.0) >= wanted - 1e-9
    ]
    return min([*fitting, 1.0])


if __name__ == "__main__":
    sys.exit(main())
