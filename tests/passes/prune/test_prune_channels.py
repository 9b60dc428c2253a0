from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import PassError, UsageError
from gcompile.passes import PassContext, parse_pipeline
from gcompile.passes.prune.groups import prune_groups
from gcompile.passes.prune.importance import Importance
from gcompile.passes.prune.prune_channels import NO_CHEAPER, PruneChannels
from tests.passes.precision.models import (
    CONV_CHAIN,
    context,
    fused,
    rows_for,
    signal_to_noise_db,
)
from tests.passes.prune.networks import ATTENTION, networks

TWO_CONVOLUTIONS = """
    g (float[1,3,6,6] x) => (float[1,4,6,6] y)
    <float[8,3,3,3] w1, float[8] b1, float[4,8,3,3] w2, float[4] b2> {
        a = Conv<pads = [1,1,1,1]>(x, w1, b1)
        r = Relu(a)
        y = Conv<pads = [1,1,1,1]>(r, w2, b2)
    }"""

PERCEPTRON = """
    g (float[1,6] x) => (float[1,3] y)
    <float[6,8] w1, float[8] b1, float[8,3] w2, float[3] b2> {
        a = MatMul(x, w1)
        ab = Add(a, b1)
        r = Relu(ab)
        o = MatMul(r, w2)
        y = Add(o, b2)
    }"""


DEEP = """
    g (float[1,6] x) => (float[1,3] y)
    <float[6,8] w1, float[8,9] w2, float[9,3] w3> {
        a = MatMul(x, w1)
        b = Relu(a)
        c = MatMul(b, w2)
        d = Relu(c)
        y = MatMul(d, w3)
    }"""


def prunable(model: ir.Model) -> dict[str, int]:
    return {g.name: g.size for g in prune_groups(model) if g.reason is None}


def set_constant(model: ir.Model, shape: tuple[int, ...], change: object) -> None:
    """Change the one constant of a shape in place."""
    (value,) = (v for v in model.graph.initializers.values() if ir.static_shape(v) == shape)
    array = np.array(ir.constant_array(value))
    assert callable(change)
    change(array)
    value.const_value = ir.tensor(array, name=value.name)


def outputs(model: ir.Model, rows: int = 64, seed: int = 7) -> ir.Array:
    runner = OnnxRuntime()
    return runner.run_rows(model, rows_for(model, rows, seed))["y"]


@pytest.mark.parametrize("importance", [Importance.RECONSTRUCTION, Importance.MAGNITUDE])
@pytest.mark.parametrize("text", [CONV_CHAIN, TWO_CONVOLUTIONS, PERCEPTRON, ATTENTION])
def test_it_keeps_its_contract(text: str, importance: Importance) -> None:
    model = fused(text)
    options = PruneChannels(ratio=0.5, importance=importance, round_to=1)
    record = testing.check_pass(options, model, ctx=context(model, rows=64))
    assert record.changed >= 1
    assert record.after.total.energy_j < record.before.total.energy_j


@settings(
    deadline=None, max_examples=25, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(networks(), st.floats(0.1, 0.9), st.integers(1, 4))
def test_any_network_keeps_running(model: ir.Model, ratio: float, round_to: int) -> None:
    ctx = context(model, rows=8)
    record = testing.check_pass(PruneChannels(ratio=ratio, round_to=round_to), model, ctx=ctx)
    assert record.changed or record.skipped or not prunable(model)


@settings(deadline=None, max_examples=15, derandomize=True)
@given(st.sampled_from((TWO_CONVOLUTIONS, PERCEPTRON)), st.integers(0, 99), st.data())
def test_channels_that_others_make_up_for_go_at_no_error(
    text: str, seed: int, data: st.DataObject
) -> None:
    model = fused(text, seed=seed)
    shape, axis = ((8, 3, 3, 3), 0) if text is TWO_CONVOLUTIONS else ((6, 8), 1)
    copies = data.draw(st.lists(st.integers(0, 7), min_size=2, max_size=5, unique=True))
    factors = np.linspace(0.5, 2.0, len(copies))

    def repeat(array: ir.Array) -> None:
        channels = np.moveaxis(array, axis, 0)
        for factor, copy in zip(factors[1:], copies[1:], strict=True):
            channels[copy] = factor * channels[copies[0]]

    def repeat_bias(array: ir.Array) -> None:
        array[copies[1:]] = factors[1:].astype(np.float32) * array[copies[0]]

    set_constant(model, shape, repeat)
    set_constant(model, (8,), repeat_bias)
    expected = outputs(model)
    size = 8 - (len(copies) - 1)
    options = PruneChannels(ridge=0.0)
    (name,) = prunable(model)
    assert options.prune(model, {name: size}, context(model, rows=256)) == 1
    assert prunable(model) == {name: size}
    assert signal_to_noise_db(expected, outputs(model)) > 90


def test_refitting_takes_back_most_of_the_error() -> None:
    errors = []
    for options in (
        PruneChannels(ratio=0.25, importance=Importance.MAGNITUDE, compensate=False, round_to=1),
        PruneChannels(ratio=0.25, compensate=False, round_to=1),
        PruneChannels(ratio=0.25, round_to=1),
    ):
        model = fused(TWO_CONVOLUTIONS)
        expected = outputs(model)
        options.run(model, context(model, rows=128))
        errors.append(signal_to_noise_db(expected, outputs(model)))
    assert errors[0] <= errors[1] < errors[2] - 1


def test_a_ratio_counts_from_what_there_was_at_first() -> None:
    model = fused(PERCEPTRON)
    ctx = context(model, rows=64)
    half, more = (PruneChannels(ratio=ratio, round_to=1) for ratio in (0.5, 0.75))
    assert half.apply(model, ctx).changed == 1
    assert half.apply(model, ctx).changed == 0
    assert more.apply(model, ctx).changed == 1
    assert set(prunable(model).values()) == {2}


def test_energy_is_saved_where_it_costs_least_error() -> None:
    model = fused(DEEP)

    def repeat(array: ir.Array) -> None:
        array[:, 4:] = 2 * array[:, :4]

    set_constant(model, (6, 8), repeat)
    ctx = context(model, rows=128)
    options = PruneChannels(saving=0.011)
    expected = outputs(model)
    record = testing.check_pass(options, model, ctx=ctx)
    assert record.after.total.energy_j <= 0.989 * record.before.total.energy_j
    assert prunable(model)["MatMul_a"] == 4
    assert signal_to_noise_db(expected, outputs(model)) > 30


def test_sizes_are_multiples_when_asked_to() -> None:
    model = fused(CONV_CHAIN)
    PruneChannels(ratio=0.4, round_to=4).run(model, context(model))
    assert set(prunable(model).values()) == {8}
    PruneChannels(ratio=0.5, round_to=4).run(model, context(model))
    assert set(prunable(model).values()) == {4}


def test_only_groups_that_are_named_are_pruned() -> None:
    model = fused(CONV_CHAIN)
    with pytest.raises(UsageError, match="no groups of channels called nobody"):
        PruneChannels(groups=("nobody",)).run(model, context(model))
    (name,) = prunable(model)
    assert PruneChannels(ratio=0.5, groups=(name,), round_to=1).run(model, context(model)) == 1


def test_refusals_have_reasons() -> None:
    model = fused(CONV_CHAIN)
    record = PruneChannels(ratio=0.5).apply(model, context(model))
    assert record.skipped["it is an output of the model"] == 1


def test_sizes_that_cost_no_less_are_not_taken() -> None:
    """A processor that is bound by starting kernels saves nothing when they do less."""
    model = fused(PERCEPTRON)
    ctx = context(model, rows=64)
    free = replace(
        ctx.target,
        units=tuple(replace(u, op_j=0.0) for u in ctx.target.units),
        static_w=0.0,
        memories=tuple(replace(m, byte_j=0.0) for m in ctx.target.memories),
    )
    record = PruneChannels(ratio=0.5).apply(model, replace(ctx, target=free))
    assert record.changed == 0
    assert record.skipped[NO_CHEAPER] == 1


def test_rows_are_needed_to_see_what_is_missed() -> None:
    model = fused(PERCEPTRON)
    ctx = PassContext(testing.example_target(), testing.example_context().energy)
    with pytest.raises(PassError, match="needs calibration rows"):
        PruneChannels().run(model, ctx)
    weights_alone = PruneChannels(
        ratio=0.5, importance=Importance.MAGNITUDE, compensate=False, round_to=1
    )
    assert weights_alone.run(model, ctx) == 1


@pytest.mark.parametrize(
    "options", [{"ratio": 1.0}, {"saving": 1.0}, {"round_to": 0}, {"ridge": -1.0}]
)
def test_options_are_checked(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        PruneChannels(**options)  # type: ignore[arg-type]


def test_it_is_written_on_the_command_line() -> None:
    text = "prune-channels{ratio=0.5,groups=(a,b),importance=magnitude,round_to=8}"
    (parsed,) = parse_pipeline(text).passes
    assert parsed == PruneChannels(0.5, None, ("a", "b"), Importance.MAGNITUDE, 8)
