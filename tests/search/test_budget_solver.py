from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.ir import Precision
from gcompile.search.budget_solver import Infeasible, Option, Solution, cheapest, solve

FP32, BF16, INT8 = Precision.FP32, Precision.BF16, Precision.INT8


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, list[Option]]:
    """Up to five regions with up to three options each, in microjoules."""
    number = st.floats(0.001, 100, allow_nan=False)
    return {
        f"region{index}": [
            Option(precision, draw(number) * 1e-6, draw(st.one_of(st.just(0.0), number)))
            for precision in (FP32, BF16, INT8)[: draw(st.integers(1, 3))]
        ]
        for index in range(draw(st.integers(1, 5)))
    }


def brute_force(space: dict[str, list[Option]], limit_j: float) -> float | None:
    """The least total sensitivity of all choices within the limit."""
    totals = [
        math.fsum(o.sensitivity for o in options)
        for options in itertools.product(*space.values())
        if math.fsum(o.energy_j for o in options) <= limit_j
    ]
    return min(totals, default=None)


@settings(max_examples=60, deadline=None)
@given(spaces(), st.floats(0, 1))
def test_no_other_choice_within_the_limit_is_less_sensitive(
    space: dict[str, list[Option]], position: float
) -> None:
    low = sum(min(o.energy_j for o in options) for options in space.values())
    high = sum(max(o.energy_j for o in options) for options in space.values())
    limit_j = (low + (high - low) * position) * (1 + 1e-9)
    best, found = brute_force(space, limit_j), solve(space, limit_j)
    assert best is not None
    assert isinstance(found, Solution)
    assert found.energy_j <= limit_j * (1 + 1e-12)
    assert found.sensitivity == pytest.approx(best, rel=1e-6, abs=1e-8)


@settings(max_examples=20, deadline=None)
@given(spaces())
def test_below_the_cheapest_choice_the_least_energy_is_named(
    space: dict[str, list[Option]],
) -> None:
    low = sum(min(o.energy_j for o in options) for options in space.values())
    found = solve(space, low * 0.99)
    assert isinstance(found, Infeasible)
    assert found.minimum_j == pytest.approx(low)
    assert cheapest(space).energy_j == pytest.approx(low)


def test_the_region_that_minds_less_gives_way() -> None:
    space = {
        "a": [Option(FP32, 10.0, 0.0), Option(INT8, 4.0, 0.5)],
        "b": [Option(FP32, 10.0, 0.0), Option(INT8, 4.0, 0.1)],
    }
    found = solve(space, 15.0)
    assert isinstance(found, Solution)
    assert found.choice == {"a": FP32, "b": INT8}
    assert (found.energy_j, found.sensitivity) == (14.0, 0.1)


def test_a_forbidden_choice_gives_the_next_best() -> None:
    space = {
        "a": [Option(FP32, 10.0, 0.0), Option(INT8, 4.0, 0.5)],
        "b": [Option(FP32, 10.0, 0.0), Option(INT8, 4.0, 0.1)],
    }
    found = solve(space, 15.0, [{"a": FP32, "b": INT8}])
    assert isinstance(found, Solution)
    assert found.choice == {"a": INT8, "b": FP32}


def test_an_option_of_infinite_sensitivity_is_not_taken() -> None:
    space = {"a": [Option(FP32, 10.0, 0.0), Option(INT8, 4.0, math.inf)]}
    assert isinstance(solve(space, 5.0), Infeasible)


def test_small_differences_count_beside_a_large_sensitivity() -> None:
    space = {
        "a": [Option(FP32, 9.0, 0.0), Option(INT8, 1.0, 1.0)],
        "b": [Option(FP32, 2.0, 3e-7), Option(INT8, 1.9, 2e-7), Option(BF16, 1.8, 2.5e-7)],
    }
    found = solve(space, 100.0)
    assert isinstance(found, Solution)
    assert found.choice == {"a": FP32, "b": INT8}
