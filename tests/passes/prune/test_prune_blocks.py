from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import PassError, UsageError
from gcompile.passes import PassContext
from gcompile.passes.prune.branches import branches, drop
from gcompile.passes.prune.prune_blocks import PruneBlocks
from tests.passes.precision.models import ATTENTION, context, fused, rows_for, signal_to_noise_db

RESIDUAL = """
    g (float[1,3,6,6] x) => (float[1,4] y)
    <float[6,3,3,3] w0, float[6] b0, float[6,6,3,3] w1, float[6,6,3,3] w2, float[6] b2,
     float[6,6,3,3] w3, float[6,6,3,3] w4, float[6] b4, float[6,4] w5, float[4] b5,
     int64[1] axes = {1}> {
        c0 = Conv<pads = [1,1,1,1]>(x, w0, b0)
        r0 = Relu(c0)
        c1 = Conv<pads = [1,1,1,1]>(r0, w1)
        r1 = Relu(c1)
        c2 = Conv<pads = [1,1,1,1]>(r1, w2, b2)
        s2 = Add(r0, c2)
        r2 = Relu(s2)
        c3 = Conv<pads = [1,1,1,1]>(r2, w3)
        r3 = Relu(c3)
        c4 = Conv<pads = [1,1,1,1]>(r3, w4, b4)
        s4 = Add(c4, r2)
        r4 = Relu(s4)
        m = GlobalAveragePool(r4)
        f = Flatten(m)
        y = Gemm(f, w5, b5)
    }"""

PREACTIVATED = """
    g (float[1,5,6] x) => (float[1,5,4] y)
    <float[6,6] w0, float[6] b0, float[6,6] w1, float[6,6] w2, float[6] b2, float[6,4] w3,
     float[4] b3> {
        h = MatMul(x, w0)
        s0 = Add(h, b0)
        h1 = MatMul(s0, w1)
        r1 = Relu(h1)
        h2 = MatMul(r1, w2)
        h2b = Add(h2, b2)
        s2 = Add(s0, h2b)
        h3 = MatMul(s2, w3)
        y = Add(h3, b3)
    }"""


def names(model: ir.Model) -> list[str]:
    return [branch.name for branch in branches(model)]


def shrink(model: ir.Model, shape: tuple[int, ...], count: int, factor: float) -> None:
    """Make the last `count` constants of a shape smaller."""
    alike = [v for v in model.graph.initializers.values() if ir.static_shape(v) == shape]
    for value in alike[-count:]:
        array = ir.constant_array(value)
        assert array is not None
        value.const_value = ir.tensor(
            np.float32(factor) * array.astype(np.float32), name=value.name
        )


def outputs(model: ir.Model) -> ir.Array:
    return OnnxRuntime().run_rows(model, rows_for(model, 64, seed=7))["y"]


ENCODER = ATTENTION.replace("y = Add(ob, x)", "z = Add(ob, x)\n y = MatMul(z, wo)")


@pytest.mark.parametrize("text", [RESIDUAL, PREACTIVATED, ENCODER])
def test_it_keeps_its_contract(text: str) -> None:
    model = fused(text)
    record = testing.check_pass(PruneBlocks(), model, ctx=context(model, rows=64))
    assert record.changed == len(names(fused(text))) - len(names(model)) == 1
    assert record.after.total.energy_j < record.before.total.energy_j


def test_blocks_are_found_with_all_that_is_computed_for_them() -> None:
    found = branches(fused(RESIDUAL))
    assert [(b.name, b.total, b.beside, b.products) for b in found] == [
        ("Conv_c2", "s2", "r0", ("Conv_c1", "Conv_c2")),
        ("Conv_c4", "s4", "r2", ("Conv_c3", "Conv_c4")),
    ]


def test_what_made_the_sum_before_is_not_clipped_twice() -> None:
    model = fused(RESIDUAL)
    assert drop(model, ["Conv_c4"]) == {"s2": "s4"}
    assert [node.op_type for node in model.graph] == [
        "Conv", "Relu", "Conv", "Relu", "Conv", "Add", "Relu", "GlobalAveragePool", "Flatten",
        "Gemm",
    ]  # fmt: skip
    ir.verify(model)


def test_a_value_stands_for_the_last_sum_where_several_blocks_go() -> None:
    model = fused(RESIDUAL)
    assert drop(model, names(model)) == {"c0": "s4"}
    assert names(model) == []


def test_the_block_that_does_least_is_removed() -> None:
    model = fused(RESIDUAL)
    shrink(model, (6, 6, 3, 3), 1, 0.01)
    shrink(model, (6,), 1, 0.0)
    expected = outputs(model)
    PruneBlocks().run(model, context(model, rows=64))
    assert names(model) == ["Conv_c2"]
    assert signal_to_noise_db(expected, outputs(model)) > 30


def test_a_linear_block_is_taken_over_by_what_comes_before() -> None:
    model = fused(PREACTIVATED.replace("Relu(h1)", "Identity(h1)"))
    expected = outputs(model)
    PruneBlocks(ridge=0.0).run(model, context(model, rows=128))
    assert [node.op_type for node in model.graph] == ["MatMul", "Add", "MatMul", "Add"]
    assert signal_to_noise_db(expected, outputs(model)) > 90


def test_the_count_is_of_all_that_is_gone() -> None:
    model = fused(RESIDUAL)
    ctx = context(model, rows=32)
    assert PruneBlocks(count=1).apply(model, ctx).changed == 1
    assert PruneBlocks(count=1).apply(model, ctx).changed == 0
    assert PruneBlocks(count=5).apply(model, ctx).changed == 1


def test_blocks_can_be_named() -> None:
    model = fused(RESIDUAL)
    PruneBlocks(blocks=("Conv_c2",)).run(model, context(model, rows=32))
    assert names(model) == ["Conv_c4"]
    with pytest.raises(UsageError, match="no blocks called c2"):
        PruneBlocks(blocks=("c2",)).run(model, context(model))


def test_a_sum_that_both_summands_outlive_is_no_block() -> None:
    model = fused("""
        g (float[1,4] x) => (float[1,4] y, float[1,4] z) <float[4,4] w> {
            n = Neg(x)
            z = MatMul(n, w)
            s = Add(n, z)
            y = Relu(s)
        }""")
    assert names(model) == []


def test_a_model_without_residual_connections_is_left_alone() -> None:
    model = fused("g (float[1,4] x) => (float[1,4] y) <float[4,4] w> { y = MatMul(x, w) }")
    record = PruneBlocks().apply(model, context(model))
    assert dict(record.skipped) == {"the model has no residual connections": 1}


def test_rows_are_needed() -> None:
    ctx = PassContext(testing.example_target(), testing.example_context().energy)
    with pytest.raises(PassError, match="needs calibration rows"):
        PruneBlocks().run(fused(RESIDUAL), ctx)
    with pytest.raises(UsageError, match="must not be negative"):
        PruneBlocks(count=-1)
