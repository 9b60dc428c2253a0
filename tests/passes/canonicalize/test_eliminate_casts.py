"""Eliminate casts that change nothing."""

from __future__ import annotations

import pytest

from gcompile.passes.canonicalize.eliminate_casts import EliminateCasts
from tests.passes.rewriting import check_refusal, check_rewrite


def test_a_cast_to_the_same_type_goes() -> None:
    check_rewrite(
        EliminateCasts(),
        "g (float[3] x) => (float[3] y) { a = Cast<to = 1>(x) y = Relu(a) }",
        "y = Relu(x)",
    )


@pytest.mark.parametrize(("there", "kind"), [(11, "float"), (1, "float16"), (6, "uint8")])
def test_a_round_trip_through_a_wider_type_goes(there: int, kind: str) -> None:
    back = {"float": 1, "float16": 10, "uint8": 2}[kind]
    check_rewrite(
        EliminateCasts(),
        f"""g ({kind}[3] x) => ({kind}[3] y) {{
            a = Cast<to = {there}>(x)
            b = Cast<to = {back}>(a)
            y = Identity(b)
        }}""",
        f"""
        a = Cast<to={there}>(x)
        y = Identity(x)
        """,
    )


def test_a_detour_is_cut_short() -> None:
    check_rewrite(
        EliminateCasts(),
        "g (uint8[3] x) => (float[3] y) { a = Cast<to = 7>(x) y = Cast<to = 1>(a) }",
        """
        a = Cast<to=7>(x)
        y = Cast<to=1>(x)
        """,
    )


@pytest.mark.parametrize("through", [10, 16, 6])
def test_a_round_trip_that_loses_digits_stays(through: int) -> None:
    check_refusal(
        EliminateCasts(),
        f"g (float[3] x) => (float[3] y) {{ a = Cast<to = {through}>(x) y = Cast<to = 1>(a) }}",
        "the cast before it may lose digits",
    )


def test_long_integers_do_not_fit_doubles() -> None:
    check_refusal(
        EliminateCasts(),
        "g (int64[3] x) => (int64[3] y) { a = Cast<to = 11>(x) y = Cast<to = 7>(a) }",
        "the cast before it may lose digits",
    )
