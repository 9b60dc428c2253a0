"""Fold paddings into what reads them."""

from __future__ import annotations

import pytest

from gcompile.passes.canonicalize.fold_pad import FoldPad
from tests.passes.rewriting import check_refusal, check_rewrite

ONES = ", ".join("1" for _ in range(16))
GRAPH = f"""g (float[1,1,6,6] x) => (float[1,1,?,?] y)
    <float[1,1,4,4] w = {{{ONES}}}, int64[8] p = {{0, 0, 1, 0, 0, 0, 0, 1}},
     int64[8] channels = {{0, 1, 0, 0, 0, 0, 0, 0}}, int64[8] crop = {{0, 0, 1, 0, 0, 0, -1, 0}},
     int64[2] large = {{4, 0}}, int64[1] axis = {{2}}, float low = {{-inf}},
     float one = {{1}}>"""


def test_paddings_add_up() -> None:
    check_rewrite(
        FoldPad(),
        f"{GRAPH} {{ a = Pad(x, p) y = Conv<pads = [0, 1, 1, 0]>(a, w) }}",
        "y = Conv<pads=[1, 1, 1, 1]>(x, w)",
    )


def test_a_maximum_takes_minus_infinity() -> None:
    check_rewrite(
        FoldPad(),
        f"{GRAPH} {{ a = Pad(x, p, low) y = MaxPool<kernel_shape = [2, 2]>(a) }}",
        "y = MaxPool<kernel_shape=[2, 2], pads=[1, 0, 0, 1]>(x)",
    )


def test_a_maximum_of_numbers_that_are_not_negative_takes_zero() -> None:
    check_rewrite(
        FoldPad(),
        f"{GRAPH} {{ r = Relu(x) a = Pad(r, p) y = MaxPool<kernel_shape = [2, 2]>(a) }}",
        """
        r = Relu(x)
        y = MaxPool<kernel_shape=[2, 2], pads=[1, 0, 0, 1]>(r)
        """,
    )


def test_a_mean_counts_the_padding() -> None:
    check_rewrite(
        FoldPad(),
        f"{GRAPH} {{ a = Pad(x, p) y = AveragePool<kernel_shape = [2, 2]>(a) }}",
        "y = AveragePool<count_include_pad=1, kernel_shape=[2, 2], pads=[1, 0, 0, 1]>(x)",
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("a = Pad(x, p) y = MaxPool<kernel_shape = [2, 2]>(a)",
         "the padding could be the maximum"),
        ("a = Pad(x, p, one) y = Conv(a, w)", "a convolution pads with zero"),
        ("a = Pad(x, p, one) y = AveragePool<kernel_shape = [2, 2]>(a)", "a mean pads with zero"),
        ("a = Pad(x, p) y = AveragePool<kernel_shape = [4, 4], pads = [1, 1, 1, 1]>(a)",
         "the mean leaves out its own padding"),
        ("a = Pad(x, p) y = MaxPool<kernel_shape = [2, 2], ceil_mode = 1>(a)",
         "the pool rounds its size up"),
        ("a = Pad(x, large, , axis) y = AveragePool<kernel_shape = [2, 2]>(a)",
         "a window would lie in the padding"),
        ("a = Pad<mode = \"edge\">(x, p) y = Conv(a, w)", "it does not pad with a constant"),
        ("a = Pad(x, crop) y = Conv(a, w)", "it crops"),
        ("a = Pad(x, p) y = Conv<auto_pad = \"SAME_UPPER\">(a, w)",
         "the reader pads automatically"),
        ("a = Pad(x, p) y = Relu(a)", "its reader is not a convolution or pool"),
    ],
)  # fmt: skip
def test_refuses_with_a_reason(body: str, reason: str) -> None:
    check_refusal(FoldPad(), f"{GRAPH} {{ {body} }}", reason)


def test_padded_channels_stay() -> None:
    check_refusal(
        FoldPad(),
        GRAPH.replace("[1,1,4,4] w", "[1,2,2,4] w") + "{ a = Pad(x, channels) y = Conv(a, w) }",
        "it pads the batch or the channels",
    )
