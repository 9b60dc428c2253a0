from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from gcompile import ir
from gcompile.energy import estimate
from gcompile.passes import PassContext
from gcompile.passes.pipelines import fuse_pipeline
from gcompile.passes.precision import (
    QuantizeStatic,
    assign_precisions,
    normalised_error,
    product_regions,
)
from gcompile.search import (
    Choice,
    Goal,
    Realized,
    SearchResult,
    Status,
    measure_sensitivity,
    precisions_of,
    search,
)
from tests.passes.precision.models import CONV_CHAIN, context, fused

INT8, FP32 = ir.Precision.INT8, ir.Precision.FP32


@dataclass
class Bench:
    """A fused model, what it costs, and an accuracy made of its output error."""

    model: ir.Model
    ctx: PassContext
    realized: list[Choice] = field(default_factory=list)
    measured: int = 0
    slope: float = 1.0

    @property
    def energy_j(self) -> float:
        return self.realize({}, QuantizeStatic()).estimate.total.energy_j

    def realize(self, choice: Choice, options: QuantizeStatic) -> Realized:
        copy = self.model.clone()
        assign_precisions(copy, precisions_of(choice), self.ctx, options)
        fuse_pipeline().apply(copy, self.ctx)
        self.realized.append(choice)
        return Realized(copy, estimate(copy, self.ctx.target, self.ctx.energy))

    def evaluate(self, model: ir.Model) -> float:
        """1 for the float model, less the more the outputs move."""
        self.measured += 1
        assert self.ctx.run is not None
        assert self.ctx.calibration is not None
        want = self.ctx.run(self.model, self.ctx.calibration)
        error = normalised_error(want, self.ctx.run(model, self.ctx.calibration))
        return float(1.0 - self.slope * error**0.5)

    def search(self, limit: float | None, max_drop: float, evaluations: int = 8) -> SearchResult:
        limit_j = None if limit is None else limit * self.energy_j
        goal = Goal(limit_j, max_drop, baseline=1.0, evaluations=evaluations)
        return search(self.model, self.ctx, goal, self.realize, self.evaluate)


@pytest.fixture
def bench() -> Bench:
    model = fused(CONV_CHAIN)
    return Bench(model, context(model))


def lowest(bench: Bench) -> float:
    """The energy of everything in int8, relative to fp32."""
    choice = {region.name: INT8 for region in product_regions(bench.model)}
    return bench.realize(choice, QuantizeStatic()).estimate.total.energy_j / bench.energy_j


def test_a_budget_above_fp32_keeps_fp32(bench: Bench) -> None:
    found = bench.search(1.1, max_drop=0.0)
    assert found.status is Status.OK
    assert set(found.best.choice.values()) == {FP32}
    assert bench.measured == 1


def test_a_budget_between_keeps_the_sensitive_regions_in_fp32(bench: Bench) -> None:
    middle = (1 + lowest(bench)) / 2
    found = bench.search(middle, max_drop=0.5)
    assert found.status is Status.OK
    assert found.best.energy_j <= middle * bench.energy_j * (1 + 1e-9)
    assert {FP32, INT8} <= set(found.best.choice.values())
    assert found.best.accuracy is not None
    assert found.best.accuracy > 0.95


def test_a_budget_out_of_reach_names_the_least_energy(bench: Bench) -> None:
    found = bench.search(0.01, max_drop=0.5)
    assert found.status is Status.BUDGET_NOT_MET
    assert found.best is found.closest
    assert found.best.energy_j <= lowest(bench) * bench.energy_j * 1.01
    assert found.explanation.startswith("The budget of ")
    assert "binds: the least energy this model reaches on this target is" in found.explanation


def test_an_accuracy_out_of_reach_names_the_least_energy_that_keeps_it(bench: Bench) -> None:
    bench.slope = 100.0
    middle = (1 + lowest(bench)) / 2
    found = bench.search(middle, max_drop=1e-4)
    assert found.status is Status.ACCURACY_NOT_MET
    assert found.best.energy_j <= middle * bench.energy_j * (1 + 1e-9)
    assert found.closest is not None
    assert found.closest.accuracy is not None
    assert found.closest.accuracy >= 1.0 - 1e-4
    assert found.explanation.startswith("The accuracy binds: within ")
    assert bench.measured <= 8


@pytest.mark.parametrize("evaluations", [1, 2, 5])
def test_accuracy_is_measured_no_more_often_than_allowed(bench: Bench, evaluations: int) -> None:
    bench.slope = 100.0
    bench.search((1 + lowest(bench)) / 2, max_drop=1e-4, evaluations=evaluations)
    assert bench.measured <= evaluations


def test_without_a_budget_the_least_energy_that_keeps_the_accuracy_is_found(bench: Bench) -> None:
    loose = bench.search(None, max_drop=0.5)
    assert loose.status is Status.OK
    assert loose.best.energy_j <= lowest(bench) * bench.energy_j * 1.01
    strict = replace(bench, slope=3.0).search(None, max_drop=0.05)
    assert strict.status is Status.OK
    assert strict.best.accuracy is not None
    assert strict.best.accuracy >= 0.95
    assert strict.best.energy_j <= bench.energy_j


def test_without_evaluation_the_sensitivities_decide(bench: Bench) -> None:
    goal = Goal((1 + lowest(bench)) / 2 * bench.energy_j)
    found = search(bench.model, bench.ctx, goal, bench.realize)
    assert found.status is Status.OK
    assert found.best.accuracy is None
    assert "accuracy not measured" in found.explanation


def test_without_calibration_rows_int8_is_not_considered(bench: Bench) -> None:
    bench.ctx = replace(bench.ctx, calibration=None, run=None)
    goal = Goal(0.9 * bench.energy_j)
    found = search(bench.model, bench.ctx, goal, bench.realize)
    assert INT8 not in {
        p for options in found.space.values() for p in (o.setting for o in options)
    }


def test_the_same_search_gives_the_same_choice(bench: Bench) -> None:
    middle = (1 + lowest(bench)) / 2
    choices = [bench.search(middle, max_drop=0.02).best.choice for _ in range(2)]
    assert choices[0] == choices[1]


def test_progress_is_told_with_fractions(bench: Bench) -> None:
    told: list[tuple[str, float]] = []
    goal = Goal(0.8 * bench.energy_j)
    search(
        bench.model, bench.ctx, goal, bench.realize, on_progress=lambda s, d: told.append((s, d))
    )
    assert any(stage == "measuring sensitivities" for stage, _ in told)
    assert all(0 <= done <= 1 for _, done in told)


def test_a_region_that_matters_more_is_more_sensitive() -> None:
    model = fused("""
        g (float[1,8] x) => (float[1,16] y)
        <float[8,8] w, float[8,8] v, float[1] small = {0.001}> {
            a = MatMul(x, w)
            b = MatMul(x, v)
            c = Mul(b, small)
            y = Concat<axis = 1>(a, c)
        }""")
    found = measure_sensitivity(model, context(model), (INT8,))
    assert found["MatMul_a"][INT8] > 1000 * found["MatMul_b"][INT8] > 0
    assert found["MatMul_a"][FP32] == 0
