from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from gcompile import ir
from gcompile.energy import estimate
from gcompile.passes.pipelines import fuse_pipeline
from gcompile.passes.precision import QuantizeStatic, assign_precisions, normalised_error
from gcompile.passes.precision.run_rows import batches, run_rows
from gcompile.passes.prune.groups import prune_groups
from gcompile.passes.prune.reduce import reduce
from gcompile.search import (
    Choice,
    Fitter,
    Goal,
    Infeasible,
    Journal,
    Option,
    Realize,
    Realized,
    Reductions,
    Status,
    measure_sensitivity,
    picked,
    precisions_of,
    search,
    solve,
    sweep,
)
from gcompile.search.choice import block_part, group_part, kernel_part
from tests.passes.precision.models import context, fused
from tests.passes.prune.test_prune_blocks import RESIDUAL

INT8, FP32 = ir.Precision.INT8, ir.Precision.FP32
CTX = context(fused(RESIDUAL), rows=96)


_LAYERS = range(9)
_WEIGHTS = ", ".join(f"float[4,{3 + 4 * i},1,1] w{i}" for i in (*_LAYERS, 9))
_JOINED = " ".join(
    f"c{i} = Conv(j{i}, w{i}) j{i + 1} = Concat<axis = 1>(j{i}, c{i})" for i in _LAYERS
)
DENSE = f"""
    g (float[1,3,6,6] x) => (float[1,4,6,6] y) <{_WEIGHTS}> {{
        j0 = Identity(x)
        {_JOINED}
        y = Conv(j9, w9)
    }}"""


def nothing(stage: str, done: float) -> None:
    """Report nothing."""


@cache
def shared() -> tuple[ir.Model, Reductions]:
    """Made once; nothing may change them."""
    model = fused(RESIDUAL)
    return model, found(model)


def found(model: ir.Model, journal: Journal | None = None) -> Reductions:
    reductions = Reductions.find(
        model, CTX, INT8, lambda copy: fuse_pipeline().apply(copy, CTX), nothing,
        journal or Journal(),
    )  # fmt: skip
    assert reductions is not None
    return reductions


def energy_j(model: ir.Model) -> float:
    return estimate(model, CTX.target, CTX.energy).total.energy_j


def test_every_group_and_every_block_has_options() -> None:
    model, reductions = shared()
    names = {group_part(g.name) for g in prune_groups(model) if g.reason is None}
    assert names < set(reductions.space)
    kernels = {kernel_part(f"Conv_c{index}") for index in range(5)}
    blocks = {block_part("Conv_c2"), block_part("Conv_c4")}
    assert set(reductions.space) - names == kernels | blocks
    for options in reductions.space.values():
        assert options[0].sensitivity == 0.0
        settings = [option.setting for option in options]
        assert settings == sorted(settings, reverse=True)


def test_the_error_of_a_block_is_that_of_the_outputs_without_it() -> None:
    model = fused(RESIDUAL)
    assert CTX.calibration is not None
    assert CTX.run is not None
    seen, fresh, *_ = batches(CTX.calibration, model, 64)
    copy = model.clone()
    reduce(copy, (), ("Conv_c2",), seen, CTX.run)
    expected = run_rows(model, fresh, CTX.run)
    error = normalised_error(expected, run_rows(copy, fresh, CTX.run))
    (option,) = shared()[1].space[block_part("Conv_c2")][1:]
    assert option.sensitivity == pytest.approx(error, rel=1e-3)


def test_what_is_known_is_not_measured_again() -> None:
    (model, _), journal = shared(), Journal()
    first = found(model, journal)
    known = dict(journal.known)
    assert len(known) == len(first.space)
    assert found(model, journal).space == first.space
    assert journal.known == known


def test_a_reduced_model_has_the_sizes_of_the_choice_and_a_draft_costs_as_much() -> None:
    model, reductions = shared()
    (name,) = (g.name for g in prune_groups(model) if g.name == "Conv_c1")
    choice: Choice = {**reductions.whole, group_part(name): 4, block_part("Conv_c4"): 0}
    assert reductions.pruned(choice) == {group_part(name): 4, block_part("Conv_c4"): 0}
    final = reductions.reduced(choice)
    draft = reductions.reduced(choice, is_draft=True)
    ir.verify(final)
    assert [n.op_type for n in final.graph].count("Conv") == 3
    assert {g.name: g.size for g in prune_groups(final)}[name] == 4
    assert energy_j(final) == pytest.approx(energy_j(draft), rel=0.02)
    assert energy_j(final) < energy_j(model)
    assert reductions.reduced(reductions.whole).graph.num_nodes() == model.graph.num_nodes()


def test_a_region_costs_what_its_groups_leave_and_nothing_where_its_block_goes() -> None:
    _, reductions = shared()
    space = {
        name: [Option(FP32, 8.0, 0.0), Option(INT8, 4.0, 0.5)] for name in ("Conv_c3", "Conv_c4")
    }
    combined = reductions.combined(space)
    assert combined.keys() == space.keys() | reductions.space.keys()
    whole = reductions.whole
    assert picked(combined, {**whole, "Conv_c3": FP32, "Conv_c4": INT8})["Conv_c4"].energy_j == 4.0
    without: Choice = {**whole, block_part("Conv_c4"): 0, "Conv_c3": FP32, "Conv_c4": FP32}
    for name in space:
        option = picked(combined, without)[name]
        assert (option.energy_j, option.sensitivity) == (0.0, 0.0)
    inner = group_part("Conv_c3")
    small = min(int(option.setting) for option in combined[inner])
    fewer: Choice = {**whole, inner: small, "Conv_c3": FP32, "Conv_c4": FP32}
    before, after = (
        sum(o.energy_j for n, o in picked(combined, choice).items() if n in space)
        for choice in ({**fewer, **whole}, fewer)
    )
    assert after < before == 16.0


def test_ways_to_prune_around_a_region_are_bounded() -> None:
    """Every region of a dense network reads what all those before it made."""
    model = fused(DENSE)
    reductions = found(model)
    space = {
        region.name: [Option(FP32, 8.0, 0.0), Option(INT8, 4.0, 0.5)]
        for region in ir.regions(model.graph)
        if region.op.startswith("Conv")
    }
    assert max(map(len, reductions.combined(space).values())) <= 2 * 96


def test_a_kernel_that_is_cut_costs_what_it_does_without_winograd() -> None:
    text = """g (float[1,64,28,28] x) => (float[1,64,28,28] y) <float[64,64,3,3] w> {
        y = Conv<pads = [1,1,1,1]>(x, w)
    }"""
    model = fused(text)
    weight = model.graph.initializers["w"]
    narrow = np.array(ir.constant_array(weight))
    narrow[..., 2] = 0
    weight.const_value = ir.tensor(narrow, name="w")
    ctx = context(model, rows=16)
    cut = Reductions.find(
        model, ctx, INT8, lambda copy: fuse_pipeline().apply(copy, ctx), nothing, Journal()
    )
    assert cut is not None
    (part,) = cut.space
    (region,) = (region.name for region in ir.regions(cut.prunable.model.graph))
    space = cut.combined({region: [Option(FP32, 8.0, 0.0), Option(INT8, 4.0, 0.5)]})
    energies = {
        precision: picked(space, {part: 6, region: precision})[region].energy_j
        for precision in (FP32, INT8)
    }
    assert energies[FP32] > 8.0, "its 3 by 3 products are not filtered any more"
    assert energies[INT8] < 0.8 * 4.0


def test_no_choice_costs_less_than_nothing() -> None:
    model, reductions = shared()
    sensitivity = measure_sensitivity(model, CTX, (INT8,))
    fitter = Fitter.start(realize(model, reductions), (INT8,), sensitivity, reductions)
    least = solve(fitter.space, 0.0)
    assert isinstance(least, Infeasible)
    assert 0.0 < least.minimum_j < min(point.energy_j for point in fitter.uniform)


def realize(model: ir.Model, reductions: Reductions) -> Realize:
    """Makes choices real, pruning included."""

    def made(choice: Choice, options: QuantizeStatic) -> Realized:
        copy = reductions.reduced(choice, is_draft=not options.bias_correction)
        there = {region.name for region in ir.regions(copy.graph)}
        precisions = {n: p for n, p in precisions_of(choice).items() if n in there}
        assign_precisions(copy, precisions, CTX, options)
        fuse_pipeline().apply(copy, CTX)
        return Realized(copy, estimate(copy, CTX.target, CTX.energy))

    return made


def evaluate(model: ir.Model) -> float:
    """1 for the float model, less the more the outputs move."""
    assert CTX.run is not None
    assert CTX.calibration is not None
    want = CTX.run(fused(RESIDUAL), CTX.calibration)
    return float(1.0 - normalised_error(want, CTX.run(model, CTX.calibration)) ** 0.5)


def test_a_search_that_may_prune_goes_where_precisions_alone_do_not() -> None:
    model, reductions = shared()
    whole = realize(model, reductions)
    lowest = search(model, CTX, Goal(None), whole).best.energy_j
    goal = Goal(0.9 * lowest, max_drop=0.9, baseline=1.0, evaluations=2)
    alone = search(model, CTX, goal, whole, evaluate)
    assert alone.status is Status.BUDGET_NOT_MET
    both = search(model, CTX, goal, whole, evaluate, reductions=reductions)
    assert both.status is Status.OK
    assert both.best.energy_j <= 0.9 * lowest
    assert both.best.pruned > 0
    assert "pruned in" in both.explanation


def test_windows_at_other_places_are_as_large_and_cost_as_much() -> None:
    _, reductions = shared()
    for name, ranked in reductions.prunable.windows.items():
        for alike in ranked:
            choice = {**reductions.whole, kernel_part(name): alike[0].taps}
            errors = [window.error for window in alike]
            assert errors == sorted(errors)
            for moved in reductions.moved(choice):
                assert reductions.count(moved) == reductions.count(choice) == 1
                assert reductions.pruned(moved) != reductions.pruned(choice)
                other = reductions.reduced(moved, is_draft=True)
                best = reductions.reduced(choice, is_draft=True)
                sizes = [sum(v.const_value.size for v in m.graph.initializers.values()
                             if v.const_value is not None) for m in (other, best)]  # fmt: skip
                assert sizes[0] == sizes[1]
    assert not list(reductions.moved(reductions.whole))


def test_what_is_pruned_to_no_use_is_put_back() -> None:
    model, reductions = shared()
    sensitivity = measure_sensitivity(model, CTX, (INT8,))
    fitter = Fitter.start(realize(model, reductions), (INT8,), sensitivity, reductions)
    parts = [part for part in reductions.space if len(reductions.space[part]) > 1][:2]
    pruned = {part: reductions.space[part][-1].setting for part in parts}
    point = fitter.point({**fitter.uniform[-1].choice, **pruned})
    light = fitter.lightened(point, fitter.uniform[0].energy_j)
    assert not reductions.pruned(light.choice)
    assert fitter.lightened(point, point.energy_j).energy_j <= point.energy_j * (1 + 1e-9)


def test_a_search_looks_around_where_what_it_measured_is_not_accurate_enough() -> None:
    model, reductions = shared()
    whole = realize(model, reductions)
    lowest = search(model, CTX, Goal(None), whole).best.energy_j
    built: list[ir.Model] = []

    def favoured(candidate: ir.Model) -> float:
        """Not accurate enough before anything was looked at closely."""
        return 1.0 - 1e-3 * (len(screened) == 0)

    screened: list[ir.Model] = []

    def screen(candidate: ir.Model) -> float:
        screened.append(candidate)
        return evaluate(candidate)

    def build(candidate: ir.Model) -> float:
        built.append(candidate)
        return favoured(candidate)

    goal = Goal(0.9 * lowest, max_drop=1e-4, baseline=1.0, evaluations=7)
    found = search(model, CTX, goal, whole, build, reductions=reductions, screen=screen)
    assert found.status is Status.OK
    assert screened
    assert len(built) <= 7
    assert found.best.energy_j <= 0.9 * lowest
    assert built[-1] in screened


def test_a_sweep_that_may_prune_reaches_further_down() -> None:
    model, reductions = shared()
    whole = realize(model, reductions)
    alone = sweep(model, CTX, (INT8,), whole, evaluate, points=2)
    both = sweep(model, CTX, (INT8,), whole, evaluate, points=4, reductions=reductions)
    assert both[0].energy_j < alone[0].energy_j
    assert np.isfinite([point.accuracy or 0.0 for point in both]).all()


def test_without_rows_there_is_nothing_to_prune() -> None:
    ctx = replace(CTX, calibration=None)
    model = fused(RESIDUAL)
    assert Reductions.find(model, ctx, FP32, lambda copy: None, nothing, Journal()) is None
