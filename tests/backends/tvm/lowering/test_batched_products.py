"""Products of two computed operands run on our kernels, with the moves around them."""

from __future__ import annotations

import pytest

from gcompile import testing
from tests.backends.tvm.lowering.compiling import check, operators

ATTENTION = """
    g (float[2,9,24] x, float[2,1,1,9] mask) => (float[2,9,24] y)
    <float[24,24] wq, float[24,24] wk, float[24,24] wv, int64[4] split = {2,9,3,8},
     int64[3] merge = {2,9,24}, float scale = {0.35}> {
        q = MatMul(x, wq)
        q4 = Reshape(q, split)
        qt = Transpose<perm = [0,2,1,3]>(q4)
        k = MatMul(x, wk)
        k4 = Reshape(k, split)
        kt = Transpose<perm = [0,2,3,1]>(k4)
        v = MatMul(x, wv)
        v4 = Reshape(v, split)
        vt = Transpose<perm = [0,2,1,3]>(v4)
        s = MatMul(qt, kt)
        scaled = Mul(s, scale)
        masked = Add(scaled, mask)
        p = Softmax<axis = -1>(masked)
        r = Relu(p)
        a = MatMul(r, vt)
        at = Transpose<perm = [0,2,1,3]>(a)
        y = Reshape(at, merge)
    }"""
"""The Relu changes nothing, but keeps the products apart."""

PRODUCTS = {
    "two matrices": "g (float[3,5] a, float[5,7] b) => (float[3,7] y) { y = MatMul(a, b) }",
    "a batch, and what is added to it": """
        g (float[2,3,5] a, float[2,5,7] b, float[2,1,7] c) => (float[2,3,7] y)
        { m = MatMul(a, b) r = Relu(m) y = Add(r, c) }""",
    "a residual": """
        g (float[2,3,5] a, float[2,5,7] b, float[2,3,7] c) => (float[2,3,7] y)
        { m = MatMul(a, b) y = Add(m, c) }""",
    "one right operand for every image": """
        g (float[4,2,3,5] a, float[1,2,5,7] b) => (float[4,2,3,7] y) { y = MatMul(a, b) }""",
    "one left operand for every head": """
        g (float[4,1,3,5] a, float[2,5,7] b) => (float[4,2,3,7] y) { y = MatMul(a, b) }""",
    "one right operand for all": """
        g (float[4,2,3,5] a, float[5,7] b) => (float[4,2,3,7] y) { y = MatMul(a, b) }""",
    "three axes of batches": """
        g (float[2,3,4,3,5] a, float[2,3,4,7,5] b) => (float[2,3,4,3,7] y)
        { t = Transpose<perm = [0,1,2,4,3]>(b) y = MatMul(a, t) }""",
    "heads joined with the batch, as older exporters write them": """
        g (float[2,6,12] a, float[2,6,12] b) => (float[6,6,6] y)
        <int64[4] split = {2,6,3,4}, int64[3] join = {6,6,4}> {
            a4 = Reshape(a, split)
            at = Transpose<perm = [0,2,1,3]>(a4)
            aj = Reshape(at, join)
            b4 = Reshape(b, split)
            bt = Transpose<perm = [0,2,1,3]>(b4)
            bj = Reshape(bt, join)
            bk = Transpose<perm = [0,2,1]>(bj)
            y = MatMul(aj, bk)
        }""",
    "a vector and a matrix": "g (float[5] a, float[5,7] b) => (float[7] y) { y = MatMul(a, b) }",
    "a matrix and a vector": "g (float[3,5] a, float[5] b) => (float[3] y) { y = MatMul(a, b) }",
    "two vectors": "g (float[5] a, float[5] b) => (float y) { y = MatMul(a, b) }",
    "with itself": """
        g (float[2,6,6] a) => (float[2,6,6] y) { r = Relu(a) y = MatMul(r, r) }""",
    "factors and a bias": """
        g (float[3,5] a, float[7,5] b) => (float[3,7] y) <float[7] c>
        { y = Gemm<transB = 1, alpha = 2.0, beta = 0.5>(a, b, c) }""",
    "a constant on the left": """
        g (float[5,7] b) => (float[3,7] y) <float[3,5] a> { y = MatMul(a, b) }""",
    "constants for every image": """
        g (float[2,3,5] a) => (float[2,3,7] y) <float[2,5,7] w> { y = MatMul(a, w) }""",
    "a constant mask": """
        g (float[1,2,5,8] a, float[1,2,8,5] b) => (float[1,2,5,5] y) <float[1,1,5,5] mask>
        { m = MatMul(a, b) y = Add(m, mask) }""",
    "as many heads as rows, put side by side, then more": """
        g (float[1,4,4,4] a, float[1,4,4,4] b) => (float[1,4,4,4] y)
        { m = MatMul(a, b) t = Transpose<perm = [0,2,1,3]>(m) y = Relu(t) }""",
    "heads put side by side after something else": """
        g (float[1,3,4,5] a, float[1,3,5,6] b, float[4,6] c) => (float[1,4,3,6] y)
        { m = MatMul(a, b) s = Add(m, c) y = Transpose<perm = [0,2,1,3]>(s) }""",
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_products_of_any_shape(name: str) -> None:
    assert check(PRODUCTS[name]).report.fallbacks == {}


@pytest.mark.parametrize("precision", [None, "bf16", "fp16", "int8"])
def test_attention_has_no_transposes_of_its_own(precision: str | None) -> None:
    built = check(ATTENTION, precision)
    assert built.report.fallbacks == {}
    assert "Transpose" not in operators(built.model)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
def test_the_products_run_in_the_precision_that_was_asked_for(precision: str) -> None:
    layers = check(ATTENTION, precision).report.layers
    assert {layer.precision for layer in layers if "MatMul" in layer.op} == {precision}


@pytest.mark.parametrize("target", ["generic-x86-avx2", "generic-x86-avx512"])
def test_older_machines_get_the_same_numbers(target: str) -> None:
    assert check(ATTENTION, "int8", target=target).report.fallbacks == {}


@pytest.mark.parametrize("threads", [2])
def test_threads_share_heads(threads: int) -> None:
    assert check(ATTENTION, threads=threads).report.fallbacks == {}


@pytest.mark.parametrize("left", ["uint8", "int8"])
@pytest.mark.parametrize("right", ["uint8", "int8"])
def test_bytes_of_either_sign_and_any_zero_point(left: str, right: str) -> None:
    text = f"""
        g ({left}[2,5,7] a, {right}[2,7,6] b) => (uint8[2,5,6] y)
        <float s = {{0.02}}, {left} za = {{3}}, float t = {{0.03}}, {right} zb = {{11}},
         float u = {{4.0}}, uint8 z = {{120}}> {{
            x = DequantizeLinear(a, s, za)
            w = DequantizeLinear(b, t, zb)
            m = MatMul(x, w)
            y = QuantizeLinear(m, u, z)
        }}"""
    built = check(text, tolerance=testing.NARROW_TOLERANCE)
    assert built.report.fallbacks == {}
    assert [layer.precision for layer in built.report.layers] == ["int8"]
