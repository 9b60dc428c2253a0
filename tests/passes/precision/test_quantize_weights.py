from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import PassError, UsageError
from gcompile.passes.pipelines import exact_pipeline
from gcompile.passes.precision import Rounding
from gcompile.passes.precision.quantize_weights import QuantizeWeights
from gcompile.passes.precision.run_rows import run_rows
from tests.passes.example_models import HEADER
from tests.passes.precision.models import context, fused, signal_to_noise_db
from tests.passes.rewriting import check_refusal

_TWO = """
    g (float[2,48] x) => (float[2,9] y) <float[48,33] w, float[9,33] v> {
        a = MatMul(x, w)
        r = Relu(a)
        y = Gemm<transB = 1>(r, v)
    }"""


def test_a_decoder_stands_before_each_product() -> None:
    model = fused(_TWO)
    record = testing.check_pass(QuantizeWeights(), model)
    assert record.changed == 2
    assert testing.to_lines(model) == "\n".join(
        [
            "w::MatMul_a = DequantizeLinear<axis=0, block_size=32>(w_stored, w_scale)",
            "a = MatMul(x, w::MatMul_a)",
            "r = Relu(a)",
            "v::Gemm_y = DequantizeLinear<axis=1, block_size=32>(v_stored, v_scale)",
            "y = Gemm<transB=1>(r, v::Gemm_y)",
        ]
    )
    stored = {name: v for name, v in model.graph.initializers.items() if "stored" in name}
    assert {str(value.dtype) for value in stored.values()} == {"INT4"}
    assert set(model.graph.initializers) == {"w_stored", "w_scale", "v_stored", "v_scale"}


def test_the_product_decodes_its_weight_itself() -> None:
    model = fused(_TWO)
    QuantizeWeights(bits=8, block=64).apply(model, testing.example_context())
    exact_pipeline().apply(model, testing.example_context())
    regions = ir.regions(model.graph)
    assert [region.op for region in regions] == ["MatMul+Relu", "Gemm"]
    assert all(region.weight_decoder is not None for region in regions)


@pytest.mark.parametrize(("bits", "decibels"), [(4, 17), (8, 42)])
def test_more_bits_are_nearer(bits: int, decibels: float) -> None:
    model = fused(_TWO)
    before = model.clone()
    QuantizeWeights(bits=bits).apply(model, testing.example_context())
    inputs = testing.example_inputs(before, 1)
    want, got = (testing.run(m, inputs)["y"] for m in (before, model))
    assert signal_to_noise_db(want, got) > decibels


def test_a_weight_with_two_readers_is_stored_for_each() -> None:
    model = fused("""
        g (float[2,32] x) => (float[2,32] y) <float[32,32] w> {
            a = MatMul(x, w)
            y = MatMul(a, w)
        }""")
    assert testing.check_pass(QuantizeWeights(), model).changed == 2
    assert len({str(node.name) for node in model.graph}) == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("""g (float[3,2] x) => (float[2,2] y) <float[3,2] w = {1, 2, 3, 4, 5, 6}>
            { y = Gemm<transA = 1>(x, w) }""", "its first operand is transposed"),
        ("""g (float[1,2,2] x) => (float[1,2,1] y) <float[1,2,1] w = {1, 2}>
            { y = MatMul(x, w) }""", "its weight is not a matrix"),
        ("""g (float16[1,2] x) => (float16[1,1] y) <float16[2,1] w = {1, 2}>
            { y = MatMul(x, w) }""", "its weight is not fp32"),
    ],
)  # fmt: skip
def test_other_products_are_left_alone(text: str, reason: str) -> None:
    check_refusal(QuantizeWeights(), text, reason)


def test_weights_that_are_not_finite_are_left_alone() -> None:
    model = ir.parse(f"{HEADER}g (float[1,2] x) => (float[1,1] y) <float[2,1] w = {{1, 2}}>"
                     "{ y = MatMul(x, w) }")  # fmt: skip
    weight = model.graph.initializers["w"]
    weight.const_value = ir.tensor(np.array([[1], [np.inf]], np.float32), name="w")
    record = QuantizeWeights().apply(model, testing.example_context())
    assert tuple(record.skipped) == ("its weight has numbers that are not finite",)


@pytest.mark.parametrize(("bits", "block"), [(3, 32), (4, 16)])
def test_other_options_are_refused(bits: int, block: int) -> None:
    with pytest.raises(UsageError, match="quantize-weights"):
        QuantizeWeights(bits=bits, block=block)


@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_by_the_gram_matrix_moves_outputs_less(bits: int) -> None:
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(512, 8)) @ rng.normal(size=(8, 48))).astype(np.float32)
    found = {}
    for rounding in Rounding:
        model = fused(_TWO)
        ctx = replace(context(model), calibration={"x": rows[:256]})
        before = model.clone()
        record = testing.check_pass(QuantizeWeights(bits, rounding=rounding), model, ctx=ctx)
        assert record.changed == 2
        unseen = {"x": rows[256:]}
        want, got = (run_rows(m, unseen, OnnxRuntime())["y"] for m in (before, model))
        found[rounding] = signal_to_noise_db(want, got)
    assert found[Rounding.GRAM] > found[Rounding.NEAREST] + 1


def test_rounding_by_the_gram_matrix_needs_rows() -> None:
    model = fused(_TWO)
    with pytest.raises(PassError, match="needs calibration rows"):
        QuantizeWeights(rounding=Rounding.GRAM).run(model, testing.example_context())
