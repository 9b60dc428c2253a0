"""Learn from many boards which terms take which share, and write it as the calibration's prior.

    python -m benchmarks.fidelity.learn_prior --data FOLDER [-o prior.toml]

Each board b costs s_b · c_b per unit, where only c_b = N(mean, deviation) is common to all boards.
Given the mean, each board's c_b is a Gaussian in closed form; given those, the mean is theirs. The
deviation is one number for all terms: a dozen boards do not tell one for each, and deviations that
were learned term by term predicted boards they had not seen no better.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.fidelity.rows import Board, Vector, read_boards
from gcompile import ir
from gcompile.energy.calibration import TERMS
from gcompile.energy.calibration.prior import Prior

NOISE = 0.06
"""What the terms leave unexplained of a row, relative."""
DEVIATION = 0.85
"""Standard deviation of every share between boards, as a multiple of the average share."""
_ROW_NOISE = 0.03
_LEAST_SHARE = 1e-4
_ROUNDS = 30
SOURCE = (
    "Learned from MobileNet v1 and v2 on 13 boards and runtimes, derived from MLPerf Inference "
    "logs, not an official result"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path)
    given = parser.parse_args()
    text = prior_text(read_boards(given.data))
    if given.output:
        given.output.write_text(text, encoding="utf-8")
    else:
        print(text)


def learn(boards: Sequence[Board]) -> Prior:
    """Learn the prior of boards of one precision."""
    amount, share = shares(boards)
    return Prior(share / amount, DEVIATION / len(share) / amount, NOISE, SOURCE)


def shares(boards: Sequence[Board]) -> tuple[Vector, Vector]:
    """Return the typical amount of each term, and the mean share it takes."""
    amount = np.mean([board.amounts.mean(axis=0) for board in boards], axis=0)
    sets = [b.amounts / amount / b.joules[:, None] * b.joules.mean() for b in boards]
    mean = np.full(len(amount), 1 / len(amount))
    scales = [1 / float(np.mean(lines @ mean)) for lines in sets]
    for _ in range(_ROUNDS):
        found = []
        for i, lines in enumerate(sets):
            centre = _posterior_mean(lines * scales[i], mean)
            scales[i] *= centre.sum()
            found.append(centre / centre.sum())
        mean = np.maximum(np.mean(found, axis=0), _LEAST_SHARE)
        mean /= mean.sum()
    return amount, mean


def _posterior_mean(lines: Vector, mean: Vector) -> Vector:
    """Return the mean of a board's shares, given rows whose target is one."""
    variance = (DEVIATION / len(mean)) ** 2
    precision = lines.T @ lines / _ROW_NOISE**2 + np.eye(len(mean)) / variance
    found: Vector = np.linalg.solve(precision, lines.sum(axis=0) / _ROW_NOISE**2 + mean / variance)
    return found


def prior_text(boards: Sequence[Board]) -> str:
    """Return the prior as the TOML file that ships."""
    lines = [
        "# Written by `python -m benchmarks.fidelity.learn_prior`. Where a typical network holds",
        "# `amount` units of a term, the term takes `share` of its energy. Only ratios count: how",
        "# much a board costs in all is left to its rows. `deviation` is that of a share between",
        "# boards, as a multiple of the average share; `noise` is what a row differs by anyway.",
        f'source = "{SOURCE}"',
        'status = "derived"',
        f"deviation = {DEVIATION}",
        f"noise = {NOISE}",
    ]
    for precision in (ir.Precision.FP32, ir.Precision.INT8):
        columns = shares([board for board in boards if board.precision is precision])
        lines += ["", f"[{precision}]"]
        for term, amount, share in zip(TERMS, *columns, strict=True):
            lines.append(f"{term} = {{share = {share:.4f}, amount = {amount:.4g}}}")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
