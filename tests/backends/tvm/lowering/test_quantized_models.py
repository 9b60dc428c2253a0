"""Models that come quantized: in whatever form, the numbers are those of the graph as written."""

from __future__ import annotations

import pytest

from gcompile import testing
from tests.backends.tvm.lowering.compiling import check

STEP = testing.NARROW_TOLERANCE
"""A sum on a rounding boundary may end one step beside."""

UNSIGNED = "float s = {0.051}, uint8 z = {120}, float t = {0.0437}, uint8 v = {7}"
SIGNED = "float s = {0.041}, int8 z = {-3}, float t = {0.063}, int8 v = {5}"
SCALES = "float[6] ws = {0.011, 0.02, 0.03, 0.02, 0.01, 0.015}"

WEIGHTS = {
    "a scale for every channel": (f"int8[6,3,3,3] w8, {SCALES}, int8[6] wz = {{0, 0, 0, 0, 0, 0}}",
                                  "<axis = 0>(w8, ws, wz)"),
    "one scale": ("int8[6,3,3,3] w8, float ws = {0.011}, int8 wz = {0}", "(w8, ws, wz)"),
    "no zero point": ("int8[6,3,3,3] w8, float ws = {0.011}", "(w8, ws)"),
    "a zero point": ("int8[6,3,3,3] w8, float ws = {0.011}, int8 wz = {3}", "(w8, ws, wz)"),
    "unsigned": ("uint8[6,3,3,3] w8, float ws = {0.011}, uint8 wz = {128}", "(w8, ws, wz)"),
    "scales along the inputs": ("int8[6,3,3,3] w8, float[3] ws = {0.011, 0.05, 0.1}",
                                "<axis = 1>(w8, ws)"),
}  # fmt: skip


def _convolution(constants: str, weight: str, numbers: str, attributes: str = "") -> str:
    return f"""
        g (float[1,3,6,6] x) => (float[1,6,6,6] y) <{numbers}, {constants}, float[6] b> {{
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            w = DequantizeLinear{weight}
            c = Conv<pads = [1,1,1,1]{attributes}>(d, w, b)
            r = Relu(c)
            p = QuantizeLinear(r, t, v)
            y = DequantizeLinear(p, t, v)
        }}"""


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("numbers", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
def test_weights_in_every_form(name: str, numbers: str) -> None:
    constants, weight = WEIGHTS[name]
    built = check(_convolution(constants, weight, numbers), tolerance=STEP)
    known = name in [*WEIGHTS][:3]
    assert bool(built.reasons) is not known


def test_signed_rows_of_any_depth_are_multiplied() -> None:
    text = f"""
        g (float[5,7] x) => (float[5,9] y, float[5,3] u)
        <{SIGNED}, int8[7,9] w8, int8[7,3] u8, float ws = {{0.02}}, float[9] b> {{
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            w = DequantizeLinear(w8, ws)
            k = DequantizeLinear(u8, ws)
            y = Gemm(d, w, b)
            u = MatMul(d, k)
        }}"""
    assert check(text, tolerance=STEP).reasons == []


@pytest.mark.parametrize("numbers", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    ("scale", "weight"), [(SCALES, "<axis = 0>(w8, ws)"), ("float ws = {0.011}", "(w8, ws)")]
)
def test_depthwise_products_read_bytes_of_either_sign(
    scale: str, weight: str, numbers: str
) -> None:
    text = f"""
        g (float[1,6,6,6] x) => (float[1,6,6,6] y)
        <{numbers}, int8[6,1,3,3] w8, {scale}, float[6] b> {{
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            w = DequantizeLinear{weight}
            y = Conv<pads = [1,1,1,1], group = 6>(d, w, b)
        }}"""
    assert check(text, tolerance=STEP).report.fallbacks == {}


@pytest.mark.parametrize("numbers", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
@pytest.mark.parametrize("axis", [0, 1])
def test_matrix_products(axis: int, numbers: str) -> None:
    text = f"""
        g (float[2,6] x) => (float[2,6] y) <{numbers}, int8[6,6] w8, {SCALES}, float[6] b> {{
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            w = DequantizeLinear<axis = {axis}>(w8, ws)
            y = Gemm<transB = 1>(d, w, b)
        }}"""
    built = check(text, tolerance=STEP)
    assert bool(built.reasons) is not (axis == 0)


def test_a_weight_quantized_in_blocks() -> None:
    text = f"""
        g (float[2,8] x) => (float[2,8] y) <{UNSIGNED}, int8[8,8] w8, float[2,8] ws> {{
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            w = DequantizeLinear<axis = 0, block_size = 4>(w8, ws)
            y = MatMul(d, w)
        }}"""
    assert check(text, tolerance=STEP).reasons == ["the weight is quantized in blocks"]


def test_a_quantized_bias() -> None:
    text = f"""
        g (float[1,3,6,6] x) => (float[1,6,6,6] y)
        <{UNSIGNED}, int8[6,3,3,3] w8, {SCALES}, int32[6] b32 = {{1000, -200, 30, 400, -5000, 60}},
         float[6] bs = {{0.0005, 0.001, 0.0015, 0.001, 0.0005, 0.00075}}> {{
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            w = DequantizeLinear<axis = 0>(w8, ws)
            b = DequantizeLinear<axis = 0>(b32, bs)
            y = Conv<pads = [1,1,1,1]>(d, w, b)
        }}"""
    assert check(text, tolerance=STEP).report.fallbacks == {}


REGIONS = {
    "largest": "d = DequantizeLinear(q, s, z)"
    " m = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(d) p = QuantizeLinear(m, s, z)"
    " y = DequantizeLinear(p, s, z)",
    "mean": "d = DequantizeLinear(q, s, z)"
    " m = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(d) p = QuantizeLinear(m, t, v)"
    " y = DequantizeLinear(p, t, v)",
    "mean with padding": "d = DequantizeLinear(q, s, z)"
    " y = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1>(d)",
    "moved bytes": "d = DequantizeLinear(q, s, z) f = Reshape(d, row) p = QuantizeLinear(f, s, z)"
    " e = DequantizeLinear(p, s, z) g1 = Reshape(e, image) y = Relu(g1)",
    "another scale": "d = DequantizeLinear(q, s, z) p = QuantizeLinear(d, t, v)"
    " y = DequantizeLinear(p, t, v)",
    "sum": "d = DequantizeLinear(q, s, z) n = Neg(x) o = QuantizeLinear(n, t, v)"
    " e = DequantizeLinear(o, t, v) a = Add(d, e) p = QuantizeLinear(a, s, z)"
    " y = DequantizeLinear(p, s, z)",
    "a product": "d = DequantizeLinear(q, s, z) e = Sigmoid(d) a = Mul(d, e)"
    " p = QuantizeLinear(a, s, z) y = DequantizeLinear(p, s, z)",
}


@pytest.mark.parametrize("name", REGIONS)
@pytest.mark.parametrize("numbers", [UNSIGNED, SIGNED], ids=["unsigned", "signed"])
def test_regions_between_bytes(name: str, numbers: str) -> None:
    text = f"""
        g (float[1,6,5,5] x) => (float[1,6,5,5] y)
        <{numbers}, int64[2] row = {{1, 150}}, int64[4] image = {{1, 6, 5, 5}}> {{
            q = QuantizeLinear(x, s, z) {REGIONS[name]}
        }}"""
    assert check(text, tolerance=0.03).report.fallbacks == {}


def test_bytes_move_between_a_convolution_and_a_product_without_becoming_numbers() -> None:
    text = f"""
        g (float[1,3,4,4] x) => (float[1,5] y)
        <{UNSIGNED}, int8[6,3,3,3] w8, {SCALES}, int64[2] row = {{1, 96}}, int8[5,96] v8,
         float[5] vs = {{0.01, 0.02, 0.03, 0.01, 0.02}}> {{
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            w = DequantizeLinear<axis = 0>(w8, ws)
            c = Conv<pads = [1,1,1,1]>(d, w)
            p = QuantizeLinear(c, t, v)
            e = DequantizeLinear(p, t, v)
            f = Reshape(e, row)
            o = QuantizeLinear(f, t, v)
            h = DequantizeLinear(o, t, v)
            u = DequantizeLinear<axis = 0>(v8, vs)
            y = Gemm<transB = 1>(h, u)
        }}"""
    assert check(text, tolerance=STEP).report.fallbacks == {}


def test_one_value_quantized_twice() -> None:
    text = f"""
        g (float[1,3,6,6] x) => (float[1,6,6,6] y, float[1,6,6,6] n)
        <{UNSIGNED}, int8[6,3,3,3] w8, {SCALES}> {{
            q = QuantizeLinear(x, s, z)
            o = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            e = DequantizeLinear(o, s, z)
            w = DequantizeLinear<axis = 0>(w8, ws)
            y = Conv<pads = [1,1,1,1]>(d, w)
            c = Conv<pads = [1,1,1,1]>(e, w)
            n = Relu(c)
        }}"""
    assert check(text, tolerance=STEP).report.fallbacks == {}


@pytest.mark.parametrize(("kind", "numbers"), [("uint8", UNSIGNED), ("int8", SIGNED)])
def test_bytes_go_in_and_out(kind: str, numbers: str) -> None:
    text = f"""
        g ({kind}[1,3,6,6] x) => ({kind}[1,6,6,6] y, {kind}[1,3,3,3] m)
        <{numbers}, int8[6,3,3,3] w8, {SCALES}> {{
            d = DequantizeLinear(x, s, z)
            w = DequantizeLinear<axis = 0>(w8, ws)
            c = Conv<pads = [1,1,1,1]>(d, w)
            y = QuantizeLinear(c, t, v)
            m = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(x)
        }}"""
    assert str(check(text).outputs["y"].dtype) == kind


@pytest.mark.parametrize("scale", [1.0, 0.05])
@pytest.mark.parametrize("precision", [None, "bf16"])
def test_a_quantized_input_under_weights_that_are_not(scale: float, precision: str | None) -> None:
    text = f"""
        g (uint8[1,3,6,6] x) => (float[1,6,6,6] y)
        <float s = {{{scale}}}, uint8 z = {{2}}, float[6,3,3,3] w>
        {{ d = DequantizeLinear(x, s, z) y = Conv<pads = [1,1,1,1]>(d, w) }}"""
    assert check(text, precision).reasons == ["the input is quantized and the weight is not"]


def test_formats_kernels_do_not_know() -> None:
    text = """
        g (float[1,3,6,6] x) => (float[1,3,6,6] y, float[1,3,6,6] n)
        <float s = {0.05}, int16 z = {5}, float[3] ss = {0.1, 0.2, 0.05},
         uint8[3] zs = {1, 2, 3}> {
            q = QuantizeLinear(x, s, z)
            y = DequantizeLinear(q, s, z)
            p = QuantizeLinear<axis = 1>(x, ss, zs)
            n = DequantizeLinear<axis = 1>(p, ss, zs)
        }"""
    assert len(check(text, tolerance=STEP).reasons) == 4
