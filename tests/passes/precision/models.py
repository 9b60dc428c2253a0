"""Small models with weights of controlled size, and rows to calibrate them on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.energy import Roofline
from gcompile.passes import PassContext, exact_pipeline
from tests.passes.example_models import ATTENTION_OF_QKV, HEADER

CONV_CHAIN = """
    g (float[1,3,8,8] x) => (float[1,5] y)
    <float[8,3,3,3] w1, float[8] b1, float[8,8,3,3] w2, float[8,1,3,3] w3, float[8,5] w4> {
        c1 = Conv<pads = [1,1,1,1]>(x, w1, b1)
        r1 = Relu(c1)
        c2 = Conv<pads = [1,1,1,1]>(r1, w2)
        s2 = Add(c2, r1)
        r2 = Relu(s2)
        p2 = MaxPool<kernel_shape = [2,2], strides = [2,2]>(r2)
        c3 = Conv<pads = [1,1,1,1], group = 8>(p2, w3)
        r3 = Relu(c3)
        m3 = GlobalAveragePool(r3)
        f3 = Flatten(m3)
        y = MatMul(f3, w4)
    }"""

ATTENTION = (
    """
    g (float[1,6,8] x) => (float[1,6,8] y)
    <float[8] gain = {1, 1, 1, 1, 1, 1, 1, 1}, float[8] shift = {0, 0, 0, 0, 0, 0, 0, 0},
     float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8,8] wo, float[8] bo,
     int64[4] heads = {1, 6, 2, 4}, int64[3] whole = {1, 6, 8}> {
        n = LayerNormalization<axis = -1>(x, gain, shift)
        q = MatMul(n, wq)
        k = MatMul(n, wk)
        v = MatMul(n, wv)
        """
    + ATTENTION_OF_QKV
    + "}"
)


def fused(text: str, *, seed: int = 0, spread: float = 1.0) -> ir.Model:
    """Parse a model, draw its weights, and run the exact passes.

    `spread` widens how much output channels differ in size: 1 is alike.
    """
    head, _, rest = text.partition("<")
    names, _, body = rest.partition("> {")
    rng = np.random.default_rng(seed)
    given = ", ".join(_drawn(item.strip(), rng, spread) for item in _split(names))
    model = ir.parse(f"{HEADER}{head}<{given}> {{{body}")
    exact_pipeline().apply(model, testing.example_context())
    return model


def context(model: ir.Model, rows: int = 24, seed: int = 1) -> PassContext:
    """A context with calibration rows and a runner that takes rows."""
    return PassContext(
        testing.example_target(),
        Roofline(),
        calibration=rows_for(model, rows, seed),
        run=OnnxRuntime(),
    )


def rows_for(model: ir.Model, rows: int, seed: int = 1) -> dict[str, ir.Array]:
    """Normally distributed rows."""
    rng = np.random.default_rng(seed)
    return {
        str(value.name): rng.standard_normal((rows, *ir.static_shape(value)[1:])).astype(
            np.float32
        )
        for value in model.graph.inputs
    }


def weight_of(product: ir.Node) -> NDArray[np.float64]:
    """The constant that a product multiplies with."""
    weight = ir.constant_array(product.inputs[1])
    assert weight is not None
    return weight.astype(np.float64)


def signal_to_noise_db(want: NDArray[np.generic], got: NDArray[np.generic]) -> float:
    """10 · log10(signal power / noise power)."""
    a, b = want.astype(np.float64), got.astype(np.float64)
    return float(10 * np.log10((a**2).sum() / max(((a - b) ** 2).sum(), 1e-300)))


def _split(names: str) -> list[str]:
    parts, depth, start = [], 0, 0
    for index, char in enumerate(names):
        depth += (char in "[{") - (char in "]}")
        if char == "," and depth == 0:
            parts.append(names[start:index])
            start = index + 1
    return [*parts, names[start:]]


def _drawn(declaration: str, rng: np.random.Generator, spread: float) -> str:
    if "=" in declaration:
        return declaration
    kind = declaration.split()[0]
    shape = tuple(int(d) for d in kind[kind.index("[") + 1 : -1].split(","))
    depth = int(np.prod(shape[1:])) if len(shape) > 2 else shape[0]
    channels = np.geomspace(1.0, spread, shape[0]).reshape(-1, *[1] * (len(shape) - 1))
    drawn = rng.standard_normal(shape) * channels / np.sqrt(depth)
    numbers = ", ".join(f"{number:.6f}" for number in drawn.reshape(-1))
    return f"{declaration} = {{{numbers}}}"
