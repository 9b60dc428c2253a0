"""Chains nobody wrote by hand, in fp32 and int8."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcompile import ir
from tests.backends.tvm.lowering.compiling import check, parse

_UNARY = {
    "Relu": "Relu(#)",
    "LeakyRelu": "LeakyRelu<alpha = 0.3>(#)",
    "HardSwish": "HardSwish(#)",
    "Tanh": "Tanh(#)",
    "transposed": "Transpose<perm = [0,1,3,2]>(#)",
    "largest": "MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(#)",
    "mean": "AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(#)",
}


@st.composite
def models(draw: st.DrawFn, max_steps: int = 4) -> ir.Model:
    """Draw convolutions, pools, activations, sums and joins of square images, then a product."""
    lines: list[str] = []
    weights: list[str] = []
    channels = {"x": draw(st.integers(1, 6))}
    width = channels["x"]

    def convolution(source: str) -> str:
        kernel = draw(st.sampled_from([1, 3]))
        depthwise = draw(st.booleans())
        wanted = channels[source] if depthwise else draw(st.integers(1, 10))
        depth = 1 if depthwise else channels[source]
        attributes = f"pads = {[kernel // 2] * 4}"
        attributes += f", group = {channels[source]}" if depthwise and channels[source] > 1 else ""
        weights.append(f"float[{wanted},{depth},{kernel},{kernel}] w{len(weights)}")
        channels[target] = wanted
        return f"Conv<{attributes}>({source}, w{len(weights) - 1})"

    for step in range(draw(st.integers(1, max_steps))):
        target = f"v{step}"
        source = draw(st.sampled_from([*channels][-3:]))
        kind = draw(st.sampled_from(["conv", "conv", "unary", "add", "concat"]))
        alike = [name for name, size in channels.items() if size == channels[source]]
        if kind == "conv":
            made = convolution(source)
        elif kind == "concat":
            other = draw(st.sampled_from([*channels]))
            made = f"Concat<axis = 1>({source}, {other})"
            channels[target] = channels[source] + channels[other]
        elif kind == "add":
            made = f"Add({source}, {draw(st.sampled_from(alike))})"
            channels[target] = channels[source]
        else:
            made = _UNARY[draw(st.sampled_from([*_UNARY]))].replace("#", source)
            channels[target] = channels[source]
        lines.append(f"{target} = {made}")
    last = [*channels][-1]
    lines += [f"p = GlobalAveragePool({last})", "f = Flatten(p)", "y = Gemm(f, u)"]
    constants = ", ".join([*weights, f"float[{channels[last]},5] u"])
    inside = draw(st.sampled_from([*channels][1:]))
    outputs = f"float[1,{channels[inside]},5,5] {inside}, float[1,5] y"
    body = " ".join(lines)
    text = f"g (float[1,{width},5,5] x) => ({outputs}) <{constants}> {{ {body} }}"
    return parse(text, seed=draw(st.integers(0, 99)))


_SETTINGS = settings(
    deadline=None, max_examples=12, derandomize=True, suppress_health_check=list(HealthCheck)
)


@_SETTINGS
@given(models())
def test_floats(model: ir.Model) -> None:
    assert check(model, tolerance=1e-4).report.status == "ok"


@_SETTINGS
@given(models())
def test_bytes(model: ir.Model) -> None:
    assert check(model, "int8").report.status == "ok"
