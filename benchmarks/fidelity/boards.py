"""Boards at the wall: fit MobileNet v1, ask for v2, against MACs alone and five linear terms.

Three priors are shown. `shipped` has seen all boards of the file, so it is what a user gets but no
proof. `unseen` was learned without the board's hardware in any runtime: this is the honest figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from scipy.optimize import nnls

from benchmarks.fidelity.learn_prior import learn
from benchmarks.fidelity.rows import FILE, Board, Vector, read_boards, regions_of
from gcompile import ir
from gcompile.energy.calibration.fit import fit
from gcompile.energy.calibration.prior import prior_of
from gcompile.energy.calibration.validate import fold_errors

TRAINED_ON = "mobilenet-v1"
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
        others = [
            b for b in boards if b.precision is board.precision and b.hardware != board.hardware
        ]
        found = {
            "MACs only": errors(board, _least_squares, five_terms(board)[:, :1]),
            "5 terms": errors(board, _least_squares, five_terms(board)),
            "unseen": errors(board, partial(fit, prior=learn(others)), board.amounts),
            "shipped": errors(board, partial(fit, prior=prior_of(board.precision)), board.amounts),
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
    return "\n".join(lines)


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
