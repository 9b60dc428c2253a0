"""Merge slices along different axes."""

from gcompile.passes.canonicalize.eliminate_slices import EliminateSlices
from tests.passes.rewriting import check_refusal, check_rewrite

GRAPH = """g (float[1,2,6,6] x) => (float[1,2,?,?] y)
    <int64[1] zero = {0}, int64[1] six = {6}, int64[1] two = {2}, int64[1] h = {2},
     int64[1] w = {-1}>"""


def test_cuts_along_different_axes_are_one() -> None:
    check_rewrite(
        EliminateSlices(),
        f"{GRAPH} {{ a = Slice(x, zero, six, w, two) y = Slice(a, two, six, h) }}",
        "y = Slice(x, Slice_y::starts, Slice_y::ends, Slice_y::axes, Slice_y::steps)",
    )


def test_cuts_along_one_axis_stay() -> None:
    check_refusal(
        EliminateSlices(),
        f"{GRAPH} {{ a = Slice(x, zero, six, h, two) y = Slice(a, zero, two, h) }}",
        "both cut the same axis",
    )
