from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcompile.ir import Precision
from gcompile.search.budget_solver import Infeasible, Option, Solution, cheapest, picked, solve

FP32, BF16, INT8 = Precision.FP32, Precision.BF16, Precision.INT8


Space = dict[str, list[Option]]


@st.composite
def problems(draw: st.DrawFn) -> Space:
    """Up to eight parts, in microjoules: regions, and groups of channels that shrink some."""
    number = st.floats(0.001, 100, allow_nan=False)
    error = st.one_of(st.just(0.0), number)
    regions = [f"region{index}" for index in range(draw(st.integers(1, 6)))]
    groups = {
        f"channels of {index}": [
            Option(size, 0.0, 0.0 if size == 16 else draw(error))
            for size in (16, 12, 8)[: draw(st.integers(2, 3))]
        ]
        for index in range(draw(st.integers(0, 2)))
    }
    space: Space = dict(groups)
    for name in regions:
        around = [group for group in groups if draw(st.booleans())]
        space[name] = [
            Option(precision, energy * math.prod(n / 16 for _, n in needs) * 1e-6, noise, needs)
            for precision in (FP32, BF16, INT8)[: draw(st.integers(1, 3))]
            for energy, noise in [(draw(number), draw(error))]
            for needs in itertools.product(
                *([(group, int(o.setting)) for o in groups[group]] for group in around)
            )
        ]
    return space


def every_choice(space: Space) -> list[dict[str, Option]]:
    """All choices whose options have what they need."""
    found = []
    for options in itertools.product(*space.values()):
        chosen = dict(zip(space, options, strict=True))
        settings_ = {name: option.setting for name, option in chosen.items()}
        if all(option.fits(settings_) for option in options):
            found.append(chosen)
    return found


def totals(chosen: dict[str, Option]) -> tuple[float, float]:
    """Energy and sensitivity."""
    options = chosen.values()
    return math.fsum(o.energy_j for o in options), math.fsum(o.sensitivity for o in options)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(problems(), st.floats(0, 1))
def test_no_other_choice_within_the_limit_is_less_sensitive(space: Space, position: float) -> None:
    choices = [totals(chosen) for chosen in every_choice(space)]
    low, high = min(e for e, _ in choices), max(e for e, _ in choices)
    limit_j = (low + (high - low) * position) * (1 + 1e-9)
    best = min(sensitivity for energy_j, sensitivity in choices if energy_j <= limit_j)
    found = solve(space, limit_j)
    assert isinstance(found, Solution)
    taken = picked(space, found.choice)
    assert totals(taken) == pytest.approx((found.energy_j, found.sensitivity))
    assert found.energy_j <= limit_j * (1 + 1e-12)
    assert found.sensitivity == pytest.approx(best, rel=1e-6, abs=1e-8)


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(problems())
def test_below_the_cheapest_choice_the_least_energy_is_named(space: Space) -> None:
    low = min(energy_j for energy_j, _ in map(totals, every_choice(space)))
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


def test_what_is_forbidden_in_part_is_forbidden_with_everything_else() -> None:
    space = {
        "a": [Option(FP32, 10.0, 0.0), Option(INT8, 4.0, 0.5)],
        "b": [Option(FP32, 10.0, 0.0), Option(INT8, 4.0, 0.1)],
    }
    found = solve(space, 15.0, [{"b": INT8}])
    assert isinstance(found, Solution)
    assert found.choice == {"a": INT8, "b": FP32}
    assert isinstance(solve(space, 15.0, [{"b": INT8}, {"a": INT8}]), Infeasible)


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


def test_what_is_pruned_away_saves_the_energy_of_its_precision_and_its_error() -> None:
    there, gone = (("block b", 1),), (("block b", 0),)
    space = {
        "a": [
            Option(FP32, 10.0, 0.0, there),
            Option(INT8, 4.0, 0.5, there),
            Option(FP32, 0.0, 0.0, gone),
        ],
        "block b": [Option(1, 0.0, 0.0), Option(0, 0.0, 0.3)],
    }
    found = solve(space, 5.0)
    assert isinstance(found, Solution)
    assert found.choice == {"a": FP32, "block b": 0}
    assert (found.energy_j, found.sensitivity) == (0.0, 0.3)
    assert picked(space, found.choice)["a"].needs == gone
