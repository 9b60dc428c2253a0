"""Gather from a table as it is stored."""

from __future__ import annotations

import pytest

from gcompile.passes.canonicalize.gather_stored import GatherStored
from tests.passes.rewriting import check_refusal, check_rewrite

TABLE = "<int8[3,4] c = {1, 2, 3, 4, -5, 6, 7, 8, 9, 10, -11, 12}, int64[2] i = {2, 0}, "


def test_one_scale_follows_the_gathered_rows() -> None:
    check_rewrite(
        GatherStored(),
        f"g (float[1] x) => (float[2,4] y) {TABLE} float s = {{0.5}}, int8 z = {{3}}> {{"
        " d = DequantizeLinear(c, s, z) g = Gather(d, i) y = Add(g, x) }",
        "d = DequantizeLinear(c, s, z)\ng::stored = Gather(c, i)\n"
        "g = DequantizeLinear<axis=0>(g::stored, s, z)\ny = Add(g, x)",
    )


@pytest.mark.parametrize(("gathered", "own", "after"), [(0, 1, 2), (-2, -1, 2), (1, 0, 0)])
def test_scales_of_the_other_axis_keep_it(gathered: int, own: int, after: int) -> None:
    scales = "{1, 2, 3, 4}" if own % 2 else "{1, 2, 4}"
    shape = "2,1,4" if gathered % 2 == 0 else "3,2,1"
    check_rewrite(
        GatherStored(),
        f"g (float[1] x) => (float[{shape}] y) {TABLE} int64[2,1] j = {{2, 0}},"
        f" float[{4 if own % 2 else 3}] s = {scales}> {{ d = DequantizeLinear<axis = {own}>(c, s)"
        f" g = Gather<axis = {gathered}>(d, j) y = Add(g, x) }}",
        f"d = DequantizeLinear<axis={own}>(c, s)\ng::stored = Gather<axis={gathered}>(c, j)\n"
        f"g = DequantizeLinear<axis={after}>(g::stored, s)\ny = Add(g, x)",
    )


@pytest.mark.parametrize(
    ("scales", "attributes", "reason"),
    [
        ("float[3] s = {1, 2, 3}", "axis = 0", "each row of the table has a scale of its own"),
        (
            "float[3,2] s = {1, 2, 3, 4, 5, 6}",
            "axis = 1, block_size = 2",
            "the table has scales of blocks",
        ),
    ],
)
def test_scales_of_rows_and_blocks_are_not_moved(
    scales: str, attributes: str, reason: str
) -> None:
    check_refusal(
        GatherStored(),
        f"g (float[1] x) => (float[2,4] y) {TABLE} {scales}> {{"
        f" d = DequantizeLinear<{attributes}>(c, s) g = Gather(d, i) y = Add(g, x) }}",
        reason,
    )
