"""Which steps of its grid a weight is rounded to."""

from gcompile.passes.precision.rounding.gram import collect_grams
from gcompile.passes.precision.rounding.reconstruct import Grid, Problem, reconstruct
from gcompile.passes.precision.rounding.round_layers import Rounding, round_layers
from gcompile.passes.precision.rounding.weight_rows import from_rows, to_rows

__all__ = [
    "Grid",
    "Problem",
    "Rounding",
    "collect_grams",
    "from_rows",
    "reconstruct",
    "round_layers",
    "to_rows",
]
