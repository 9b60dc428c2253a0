"""What is known of a board before it is measured: which terms tend to take which share.

Each term's coefficient is share / amount, times one factor that the board's rows decide. The
shares are in `prior.toml`, one table per precision, with how far boards differ from them.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gcompile.energy.calibration.terms import TERMS
from gcompile.ir import Precision

_FILE = Path(__file__).parent / "prior.toml"
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Prior:
    """Coefficients to expect, but for one common factor.

    Attributes:
        mean: Joules per unit of each term of `TERMS`, in that order, where a typical network
            costs one joule.
        deviation: Their standard deviation between boards.
        noise: Relative standard deviation of a row that the terms do not explain.
        source: Where the shares come from.
    """

    mean: Vector
    deviation: Vector
    noise: float
    source: str


@cache
def prior_of(precision: Precision) -> Prior:
    """Return the prior of a precision; those without a table of their own are like fp32."""
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    table = tables.get(precision.value, tables["fp32"])
    scale = precision.bits / 32 if precision.value not in tables else 1.0
    amount = _column(table, "amount")
    for index, unit in enumerate(TERMS.values()):
        amount[index] *= scale if unit == "B" else 1.0
    return Prior(
        mean=_column(table, "share") / amount,
        deviation=float(tables["deviation"]) / len(TERMS) / amount,
        noise=float(tables["noise"]),
        source=str(tables["source"]),
    )


def _column(table: dict[str, dict[str, float]], key: str) -> Vector:
    return np.array([table[term][key] for term in TERMS])
