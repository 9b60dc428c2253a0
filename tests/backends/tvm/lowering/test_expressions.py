"""Elementwise operators: after a product, alone, and where padding channels must stay numbers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from tests.backends.tvm.lowering.compiling import check, operators, parse

PER_CHANNEL = {
    "prelu": "y# = PRelu(c#, channels)",
    "scaled and shifted": "m# = Mul(c#, channels) a# = Add(m#, shifts) y# = Relu(a#)",
    "divided": "y# = Div(c#, channels)",
}
ANYWHERE = {
    "prelu with one slope": "y# = PRelu(c#, slope)",
    "clipped from below": "y# = Clip(c#, low)",
    "clipped from above": "y# = Clip(c#, , high)",
    "clipped": "y# = Clip(c#, low, high)",
    "not clipped": "y# = Clip(c#)",
    "leaky relu": "y# = LeakyRelu<alpha = 0.2>(c#)",
    "hard swish": "y# = HardSwish(c#)",
    "hard sigmoid": "y# = HardSigmoid<alpha = 0.3, beta = 0.4>(c#)",
    "swish": "s# = Sigmoid(c#) y# = Mul(c#, s#)",
    "gelu": "y# = Gelu(c#)",
    "gelu by tanh": 'y# = Gelu<approximate = "tanh">(c#)',
    "elu": "y# = Elu<alpha = 0.7>(c#)",
    "selu": "y# = Selu(c#)",
    "mish": "y# = Mish(c#)",
    "softplus": "y# = Softplus(c#)",
    "with numbers": "m# = Mul(low, c#) a# = Sub(high, m#) d# = Div(a#, slope) y# = Max(d#, low)",
    "roots and powers": "a# = Abs(c#) e# = Exp(a#) l# = Log(e#) r# = Sqrt(e#)"
    " q# = Reciprocal(r#) p# = Pow(e#, high) b# = Add(l#, q#) y# = Add(b#, p#)",
}
FEW = ["prelu", "scaled and shifted", "clipped", "clipped from above", "hard swish", "swish"]
ALONE = {
    "sum of three": "s# = Sigmoid(c#) t# = Tanh(c#) y# = Sum(c#, s#, t#)",
    "largest of three": "s# = Sigmoid(c#) t# = Tanh(c#) y# = Max(c#, s#, t#)",
    "rounded": "f# = Floor(c#) g# = Ceil(c#) h# = Round(c#) s# = Sign(c#) u# = Erf(c#)"
    " a# = Add(f#, g#) b# = Add(a#, h#) d# = Add(b#, s#) y# = Add(d#, u#)",
}
NUMBERS = """float low = {-0.25}, float high = {0.5}, float[1] slope = {0.3}"""
CHANNELS = "float[8,1,1] channels, float[1,8,1,1] shifts"


def _together(texts: Mapping[str, str], shape: str, constants: str) -> str:
    """One model in which each expression makes an output of its own; `#` is its number."""
    body = " ".join(text.replace("#", str(index)) for index, text in enumerate(texts.values()))
    outputs = ", ".join(f"float[{shape}] y{index}" for index in range(len(texts)))
    return f"g (float[{shape}] x) => ({outputs}) <{constants}> {{ {body} }}"


@pytest.mark.parametrize("precision", [None, "int8", "bf16"])
def test_activations_are_computed_as_the_product_is_written(precision: str | None) -> None:
    texts = PER_CHANNEL | ANYWHERE
    if precision is not None:
        texts = {name: texts[name] for name in FEW}
    products = {name: f"c# = Conv(x, w#) {text}" for name, text in texts.items()}
    weights = ", ".join(f"float[8,8,1,1] w{index}" for index in range(len(products)))
    built = check(_together(products, "1,8,1,3", f"{weights}, {CHANNELS}, {NUMBERS}"), precision)
    assert built.report.fallbacks == {}
    regions = [op for op in operators(built.model) if op not in ("QuantizeLinear", "Cast")]
    assert len(regions) == len(products)
    assert all(op.startswith("Conv") for op in regions)


@pytest.mark.parametrize("shape", ["2,6,2,3", "5"])
def test_activations_alone(shape: str) -> None:
    alone = {name: text.replace("c#", "x") for name, text in (ANYWHERE | ALONE).items()}
    assert check(_together(alone, shape, NUMBERS)).report.fallbacks == {}


@pytest.mark.parametrize(
    "body",
    [
        "t = Reciprocal(c)",
        "a = Abs(c) t = Log(a)",
        "t = Div(k, c)",
        "a = Abs(c) t = Pow(a, m)",
        "s = Sub(c, k) a = Abs(s) t = Sqrt(a)",
        "t = Div(c, per_channel)",
    ],
)
@pytest.mark.parametrize("fused", [True, False])
def test_channels_that_only_pad_never_become_nan(body: str, fused: bool) -> None:
    """Six channels are stored as eight, and a convolution multiplies the last two by zero."""
    before = "c = Conv<pads = [1,1,1,1]>(x, w)" if fused else "c = Tanh(x)"
    text = f"""
        g (float[1,6,5,5] x) => (float[1,7,5,5] y)
        <float[6,6,3,3] w, float[7,6,3,3] v, float k = {{0.1}}, float m = {{-0.5}},
         float[6,1,1] per_channel = {{1.0, 2.0, 3.0, 4.0, 5.0, 6.0}}> {{
            {before} {body} y = Conv<pads = [1,1,1,1]>(t, v)
        }}"""
    built = check(text, tolerance=1e-4)
    assert np.isfinite(built.outputs["y"]).all()
    assert built.reasons == [] or "channels that only pad" in built.reasons[0]


def test_infinite_and_missing_numbers_pass_through() -> None:
    text = """
        g (float[2,3] x) => (float[2,3] y, float[2,3] z) <float lowest> {
            y = Add(x, lowest)
            e = Abs(x)
            n = Neg(e)
            z = Log(n)
        }"""
    built = check(parse(text, constants={"lowest": np.array(-np.inf, np.float32)}))
    assert (built.outputs["y"] == -np.inf).all()
    assert np.isnan(built.outputs["z"]).all()


@pytest.mark.parametrize("precision", [None, "bf16", "int8"])
@pytest.mark.parametrize("shape", ["1,6,64", "6,64"])
def test_a_constant_as_large_as_the_output_is_read_beside_it(
    shape: str, precision: str | None
) -> None:
    built = check(
        f"""g (float[1,6,64] x) => (float[1,6,64] y) <float[{shape}] c, float[64,64] w>
        {{ m = MatMul(x, w) a = Add(m, c) y = Add(a, x) }}""",
        precision,
    )
    assert built.reasons == []


def test_scalars_and_constant_scalars_meet() -> None:
    check("""g (float[5] x) => (float y) <float k = {2.5}>
    { m = ReduceMax<keepdims=0>(x) y = Mul(m, k) }""")
