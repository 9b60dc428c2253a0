from __future__ import annotations

import numpy as np
import pytest

from gcompile import testing
from gcompile.passes import Pass
from gcompile.passes.precision import EqualizeLayers, SmoothActivations
from gcompile.passes.precision.scaling.links import Link, links
from tests.passes.precision.models import ATTENTION, CONV_CHAIN, context, fused, weight_of

CHAINS = {
    "convolutions": CONV_CHAIN,
    "groups": """
        g (float[1,4,6,6] x) => (float[1,4,6,6] y)
        <float[6,2,3,3] w, float[6] b, float[4,3,1,1] v> {
            c = Conv<pads = [1,1,1,1], group = 2>(x, w, b)
            r = LeakyRelu(c)
            y = Conv<group = 2>(r, v)
        }""",
    "a pool and a matrix of its pixels": """
        g (float[2,3,8,8] x) => (float[2,5] y) <float[4,3,3,3] w, float[36,5] v> {
            c = Conv(x, w)
            r = Relu(c)
            p = MaxPool<kernel_shape = [2,2], strides = [2,2]>(r)
            f = Flatten(p)
            y = MatMul(f, v)
        }""",
    "matrices with a bias between": """
        g (float[1,5,6] x) => (float[1,5,3] y)
        <float[6,8] w, float[8] b = {1, -2, 3, -4, 5, -6, 7, -8}, float[8,3] v> {
            m = MatMul(x, w)
            a = Add(b, m)
            r = Relu(a)
            y = MatMul(r, v)
        }""",
    "a value that two products read": """
        g (float[4,6] x) => (float[4,3] y, float[4,5] z)
        <float[8,6] w, float[8] b, float[8,3] v, float[5,8] u> {
            m = Gemm<transB = 1>(x, w, b)
            y = MatMul(m, v)
            z = Gemm<transB = 1>(m, u)
        }""",
    "attention": ATTENTION,
}  # fmt: skip


@pytest.mark.parametrize("text", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("pass_", [EqualizeLayers(), SmoothActivations(), SmoothActivations(0.8)])
def test_outputs_stay_what_they_were_and_a_second_run_finds_nothing(
    pass_: Pass, text: str
) -> None:
    model = fused(text, spread=10.0)
    record = testing.check_pass(pass_, model, ctx=context(model))
    is_free = pass_.name == "equalize-layers" and text is ATTENTION
    assert (record.changed == 0) is is_free


def test_the_weights_on_both_sides_of_a_channel_become_alike() -> None:
    model = fused(CHAINS["matrices with a bias between"], spread=10.0)
    EqualizeLayers().run(model, context(model))
    first, second = (node for node in model.graph if node.op_type in ("MatMul", "Gemm"))
    made, read = weight_of(first), weight_of(second)
    np.testing.assert_allclose(np.abs(made).max(axis=0), np.abs(read).max(axis=1), rtol=0.03)


def test_scales_are_the_square_roots_of_the_ratios() -> None:
    model = fused(
        """g (float[1,2] x) => (float[1,1] y)
        <float[2,2] w = {4, 1, 2, 0.5}, float[2,1] v = {1, 9}> {
            m = MatMul(x, w)
            y = MatMul(m, v)
        }"""
    )
    EqualizeLayers().run(model, context(model))
    first, second = model.graph[0], model.graph[1]
    np.testing.assert_allclose(weight_of(first), np.array([[2, 3], [1, 1.5]]))
    np.testing.assert_allclose(weight_of(second), np.array([[2], [3]]))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("m = MatMul(x, w)\n s = Sigmoid(m)\n y = MatMul(s, w)", "a Sigmoid makes it"),
        ("m = MatMul(x, w)\n n = MatMul(m, w)\n y = Add(m, n)", "a Add reads it too"),
        ("y = MatMul(x, w)", "it is an input of the model"),
    ],
)
def test_refusals_have_reasons(body: str, reason: str) -> None:
    model = fused(f"g (float[2,2] x) => (float[2,2] y) <float[2,2] w> {{ {body} }}")
    ctx = context(model)
    EqualizeLayers().run(model, ctx)
    assert ctx.skipped["equalize-layers", reason] == 1


def test_an_output_of_the_model_is_not_scaled() -> None:
    model = fused(
        """g (float[2,2] x) => (float[2,2] m, float[2,2] y) <float[2,2] w> {
            m = MatMul(x, w)
            y = MatMul(m, w)
        }"""
    )
    assert not any(isinstance(found, Link) and found.value.name == "m" for found in links(model))
