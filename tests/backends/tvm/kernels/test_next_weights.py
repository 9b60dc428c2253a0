"""Blocks of pixels ask for all weights of the next block of channels, before it begins."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from tvm import tirx

from gcompile.backends.tvm.kernels.next_weights import NextWeights


@given(
    vectors=st.integers(1, 8),
    pixel_blocks=st.integers(2, 60),
    turns=st.integers(1, 300),
    vector_bytes=st.sampled_from([16, 32, 64]),
)
def test_everything_is_asked_for_in_time_unless_the_rows_are_too_few(
    vectors: int, pixel_blocks: int, turns: int, vector_bytes: int
) -> None:
    steps = 2 * turns
    weights = tirx.decl_buffer((vectors, steps, vector_bytes), "int8")
    asked = NextWeights.of(weights, vectors, pixel_blocks, turns)
    assert asked is not None
    lines = math.ceil(vectors * steps * vector_bytes / 64)
    in_time = asked.lines * turns * pixel_blocks
    assert asked.shares * turns * asked.lines >= lines
    assert asked.shares <= pixel_blocks or in_time < lines
    assert in_time >= lines or asked.lines == 4


def test_one_block_of_pixels_has_nobody_to_ask_for() -> None:
    weights = tirx.decl_buffer((4, 32, 64), "int8")
    assert NextWeights.of(weights, vectors=4, pixel_blocks=1, turns=16) is None
