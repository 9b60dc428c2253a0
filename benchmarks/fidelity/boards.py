"""Boards at the wall: fit MobileNet v1, ask for v2, against MACs alone and five linear terms.

Two priors are shown. `shipped` has seen all boards of the file, so it is what a user gets but no
proof. `unseen` was learned without the board's hardware in any runtime: this is the honest figure.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks.fidelity.learn_prior import learn
from benchmarks.fidelity.rows import FILE, Board, Vector, counted, read_boards, regions_of
from gcompile import ir
from gcompile.energy.calibration import TERMS
from gcompile.energy.calibration.fit import fit
from gcompile.energy.calibration.prior import prior_of
from gcompile.energy.calibration.validate import fold_errors

TRAINED_ON = "mobilenet-v1"
POINTS = "energy_tables.json"
RESNET_50 = {
    "rpi4-tflite-v2.7.1-ruy": "v2.0 rpi4-tflite-v2.7.1-ruy",
    "rpi4-armnn-v21.11-neon": "v2.0 rpi4-armnn-v21.11-neon",
    "xavier-power.0-fan.cool-armnn-v21.05-neon": "v1.0 xavier-power.0-fan.cool-armnn-v21.02-neon",
}
"""Where ResNet-50 was measured, and the rows of the same board and runtime, or its nearest."""
Fitter = Callable[[Vector, Vector], Vector]


@dataclass(frozen=True)
class Errors:
    """Mean absolute relative errors of one model on one board, in percent."""

    across_families: float
    within: float


def report(data: Path) -> str:
    """Return the table, or one sentence on why there is none."""
    if not (data / FILE).is_file():
        return f"boards: skipped, {FILE} is not in {str(data)!r}. Give its folder with --data."
    boards = read_boards(data)
    names = ("MACs only", "5 terms", "unseen", "shipped")
    columns: dict[str, list[Errors]] = {name: [] for name in names}
    lines = [f"{'v1 -> v2 / 5-fold, %':52}" + "".join(f"{name:>15}" for name in columns)]
    for board in boards:
        shipped, unseen = prior_of(board.precision), learn(_strangers(board, boards))
        found = {
            "MACs only": errors(board, _least_squares, five_terms(board)[:, :1]),
            "5 terms": errors(board, _least_squares, five_terms(board)),
            "unseen": errors(board, partial(fit, prior=unseen), board.amounts),
            "shipped": errors(board, partial(fit, prior=shipped), board.amounts),
        }
        for name, error in found.items():
            columns[name].append(error)
        lines.append(_line(f"{board.system} {board.precision}", list(found.values())))
    for name, summary in (("median", np.median), ("worst", np.max)):
        values = [
            Errors(
                float(summary([e.across_families for e in column])),
                float(summary([e.within for e in column])),
            )
            for column in columns.values()
        ]
        lines.append(_line(name, values))
    return "\n".join([*lines, "", *_dense_network(data, boards)])


def _dense_network(data: Path, boards: list[Board]) -> list[str]:
    """Ask for ResNet-50, seven times the largest MobileNet and without depthwise convolutions."""
    points = data / POINTS
    if not points.is_file():
        return [f"ResNet-50: skipped, {POINTS} is not in {str(data)!r}."]
    found = json.loads(points.read_text(encoding="utf-8"))["validation_points"]
    measured = {p["system"]: p["J_per_inference"] for p in found if p["benchmark"] == "resnet50"}
    lines = ["ResNet-50 fp32 from MobileNets, unseen prior: measured J, predicted J, error"]
    for point, system in RESNET_50.items():
        board = next(b for b in boards if b.system == system and b.precision == "fp32")
        network = counted("resnet50", board.precision).amounts
        amounts = np.array([network.get(term, 0.0) for term in TERMS])
        costs = fit(board.amounts, board.joules, learn(_strangers(board, boards)))
        joules, truth = float(amounts @ costs), measured[point]
        lines.append(f"{point:52}{truth:15.3f}{joules:15.3f}{joules / truth - 1:15.1%}")
    return lines


def _strangers(board: Board, boards: list[Board]) -> list[Board]:
    """Return the boards of other hardware in the same precision."""
    same = [b for b in boards if b.precision is board.precision]
    return [b for b in same if b.hardware != board.hardware]


def errors(board: Board, fitter: Fitter, amounts: Vector) -> Errors:
    """Return the errors across families and within the board."""
    first = np.array([family == TRAINED_ON for family in board.families])
    joules = board.joules
    found = fitter(amounts[first], joules[first])
    across = amounts[~first] @ found / joules[~first] - 1
    within = fold_errors(amounts, joules, fitter)
    return Errors(100 * float(np.abs(across).mean()), 100 * float(np.abs(within).mean()))


def _least_squares(amounts: Vector, joules: Vector) -> Vector:
    """Fit without a prior: relative errors, no negative cost."""
    size = amounts.mean(axis=0)
    found: Vector = nnls(amounts / size / joules[:, None], np.ones(len(joules)))[0] / size
    return found


def five_terms(board: Board) -> Vector:
    """Return the usual linear model's columns, one line per row of the board."""
    return np.array([_five_terms(o.row.model, board.precision) for o in board.observations])


@cache
def _five_terms(model: str, precision: ir.Precision) -> tuple[float, ...]:
    """Count MACs, depthwise MACs, weight bytes, activation bytes, and operators."""
    counts = np.zeros(5)
    for region in regions_of(model):
        work = ir.work_of(region)
        if work.is_view:
            continue
        depthwise = region.contraction is not None and region.contraction.is_depthwise
        moved = (work.read_bytes + work.write_bytes, work.weight_bytes)
        activations, weights = (size * precision.bits / 32 for size in moved)
        slow = region.contraction.macs if region.contraction and depthwise else 0
        counts += (work.product_ops / 2, slow, weights, activations, 1)
    return tuple(counts)


def _line(name: str, values: list[Errors]) -> str:
    cells = (f"{v.across_families:7.1f} /{v.within:5.1f}" for v in values)
    return f"{name:52}" + "".join(f"{cell:>15}" for cell in cells)
