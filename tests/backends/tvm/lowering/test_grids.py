"""Operands that are broadcast along any axes, against ONNX Runtime."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.backends.tvm.lowering.compiling import check


@pytest.mark.parametrize(
    ("left", "right", "shape"),
    [
        ("4,8", "4,1", "4,8"),
        ("4,1", "1,19", "4,19"),
        ("2,3,4,5", "3,1,5", "2,3,4,5"),
        ("2,3,4,5,6", "2,1,4,5,1", "2,3,4,5,6"),
        ("2,1,4", "3,1", "2,3,4"),
        ("2,3,1", "2,3,1", "2,3,1"),
        ("2,1,3,1,5", "1,4,1,6,1", "2,4,3,6,5"),
    ],
)
def test_operands_stand_side_by_side(left: str, right: str, shape: str) -> None:
    text = f"g (float[{left}] x, float[{right}] z) => (float[{shape}] y) {{ y = Sub(x, z) }}"
    expected = ["operands are broadcast along more axes than an image has"]
    assert check(text).reasons == (expected if shape == "2,4,3,6,5" else [])


@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=4),
    kept=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_constants_are_broadcast_too(shape: list[int], kept: list[bool]) -> None:
    operand = [size if keep else 1 for size, keep in zip(shape, kept, strict=False)]
    dims, own = (",".join(map(str, sizes)) for sizes in (shape, operand))
    text = f"""
        g (float[{dims}] x, float[{own}] z) => (float[{dims}] y) <float[{own}] k> {{
            a = Mul(x, k)
            y = Max(a, z)
        }}"""
    assert check(text, threads=2).reasons == []


def test_masks_and_numbers_of_their_own_types_are_broadcast() -> None:
    text = """
        g (float[2,3,7] x, bool[2,1,7] m, float[3,1] z) => (float[2,3,7] y)
        { y = Where(m, x, z) }"""
    assert check(text).reasons == []
