from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile import ir
from gcompile.energy import Cost, Estimate
from gcompile.passes.precision import QuantizeStatic
from gcompile.search import Choice, Journal, Point, Realized, front, sweep
from tests.passes.precision.models import CONV_CHAIN, context, fused
from tests.search.test_search import Bench

PRECISIONS = (ir.Precision.INT8, ir.Precision.BF16)


@pytest.fixture
def bench() -> Bench:
    model = fused(CONV_CHAIN)
    return Bench(model, context(model))


def run(bench: Bench, points: int, journal: Journal | None = None) -> tuple[Point, ...]:
    return sweep(
        bench.model, bench.ctx, PRECISIONS, bench.realize, bench.evaluate, points=points,
        journal=journal,
    )  # fmt: skip


def test_a_sweep_reaches_from_the_least_energy_to_full_precision(bench: Bench) -> None:
    found = run(bench, 7)
    energies = [point.energy_j for point in found]
    assert energies == sorted(energies)
    assert {ir.Precision.FP32} in [set(point.choice.values()) for point in found]
    assert any(ir.Precision.INT8 in point.choice.values() for point in found)
    assert len({tuple(sorted(point.choice.items())) for point in found}) == len(found)
    assert all(point.accuracy is not None for point in found)


def test_a_better_way_to_quantize_takes_the_place_on_the_front(bench: Bench) -> None:
    def screen(model: ir.Model) -> float:
        return 2.0 if _is_moved(model) else 0.0

    def evaluate(model: ir.Model) -> float:
        return 2.0 if _is_moved(model) else bench.evaluate(model)

    found = sweep(
        bench.model, bench.ctx, PRECISIONS, bench.realize, evaluate, points=4, screen=screen
    )
    best = max(front(found), key=lambda point: point.accuracy or 0.0)
    assert best.accuracy == 2.0
    assert best.error is not None


def test_what_is_behind_in_one_way_may_lead_in_another(bench: Bench) -> None:
    """The choice of int8 everywhere costs more than that of least energy, and is no better."""
    by_means: list[ir.Model] = []

    def realize(choice: Choice, options: QuantizeStatic) -> Realized:
        made = bench.realize(choice, options)
        if options.channel_means and set(choice.values()) == {ir.Precision.INT8}:
            by_means.append(made.model)
        return made

    def evaluate(model: ir.Model) -> float:
        if any(model is each for each in by_means):
            return 2.0
        return 0.0 if any(node.op_type == "QuantizeLinear" for node in model.graph) else 1.0

    found = sweep(bench.model, bench.ctx, PRECISIONS, realize, evaluate, points=4, screen=evaluate)
    uniform = [p for p in found if set(p.choice.values()) == {ir.Precision.INT8}]
    assert sorted(point.accuracy or 0.0 for point in uniform) == [0.0, 2.0]


def _is_moved(model: ir.Model) -> bool:
    return any(name.endswith("_corrected") for name in model.graph.initializers)


@pytest.mark.parametrize("points", [1, 3, 6])
def test_no_more_is_measured_than_asked_for(bench: Bench, points: int) -> None:
    assert len(run(bench, points)) <= points
    assert bench.measured <= points


def test_without_rows_for_accuracy_the_error_stands_in(bench: Bench) -> None:
    found = sweep(bench.model, bench.ctx, PRECISIONS, bench.realize, points=5)
    assert all(point.accuracy is None and point.error is not None for point in found)
    kept = front(found)
    errors = [point.error or 0.0 for point in kept]
    assert errors == sorted(errors, reverse=True)


def test_a_second_run_measures_nothing(bench: Bench, tmp_path: Path) -> None:
    path = tmp_path / "sweep.jsonl"
    first = run(bench, 5, Journal.open(path))
    measured = bench.measured
    again = run(bench, 5, Journal.open(path))
    assert bench.measured == measured
    assert [p.choice for p in again] == [p.choice for p in first]
    assert [p.accuracy for p in again] == [p.accuracy for p in first]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=12))
def test_the_front_holds_what_nothing_beats(merits: list[tuple[int, int, int]]) -> None:
    model = ir.parse('<ir_version: 10, opset_import: ["" : 21]>\ng (float[1] x) => (float[1] y)'
                     " { y = Relu(x) }")  # fmt: skip
    points = [
        Point({}, QuantizeStatic(), model, Estimate("test", "chip", "full", _cost(e, t)), float(a))
        for a, e, t in merits
    ]
    kept = {(p.accuracy, p.energy_j, p.estimate.total.time_s) for p in front(points)}
    wanted = {
        (float(a), _cost(e, t).energy_j, _cost(e, t).time_s)
        for a, e, t in merits
        if not any((b >= a and f <= e and u <= t) and (b, f, u) != (a, e, t) for b, f, u in merits)
    }
    assert kept == wanted
    assert len(front(points)) == len(wanted)


def _cost(energy: int, seconds: int) -> Cost:
    return Cost(compute_j=float(energy), time_s=float(seconds))
