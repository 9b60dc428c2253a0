"""A Llama in pieces: embedding, layers and head as models, weights made on the fly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx_ir
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.precision.quantize_weights import QuantizeWeights, Scales

Array = NDArray[np.generic]
Reals = NDArray[np.float32]

_HEADER = '<ir_version: 10, opset_import: ["" : 21]>'
_SPREAD = 0.02
_EPSILON = 1e-5
_BASE = 10_000.0

_NORM = """
            {x}_square = Mul({x}, {x})
            {x}_mean = ReduceMean<keepdims = 1>({x}_square, last)
            {x}_power = Add({x}_mean, epsilon)
            {x}_root = Sqrt({x}_power)
            {x}_unit = Div({x}, {x}_root)
            {y} = Mul({x}_unit, {weight})"""

_DECODED = """
            {name} = DequantizeLinear<axis = 0, block_size = {block}>(
                {name}_stored, {name}_scale)"""

_ROTATE = """
            {x}_low, {x}_high = Split<axis = 3, num_outputs = 2>({x})
            {x}_minus = Neg({x}_high)
            {x}_turned = Concat<axis = 3>({x}_minus, {x}_low)
            {x}_cos = Mul({x}, cos)
            {x}_sin = Mul({x}_turned, sin)
            {y} = Add({x}_cos, {x}_sin)"""


@dataclass(frozen=True)
class Shape:
    """The sizes of a decoder; by default those of Llama 7B.

    Attributes:
        length: Positions of the cache.
        bits: Of a stored weight.
        block: Weights along the depth that share a scale.
        scales: How those scales are chosen.
    """

    hidden: int = 4096
    ffn: int = 11008
    heads: int = 32
    layers: int = 32
    vocabulary: int = 32000
    length: int = 256
    bits: int = 4
    block: int = 128
    scales: Scales = Scales.BEST

    @property
    def size(self) -> int:
        """Elements of a head."""
        return self.hidden // self.heads

    @property
    def layer_weights(self) -> dict[str, tuple[int, int]]:
        """The matrices of a layer as (depth, columns)."""
        square, wide = (self.hidden, self.hidden), (self.hidden, self.ffn)
        return {
            "wq": square, "wk": square, "wv": square, "wo": square,
            "gate": wide, "up": wide, "down": (self.ffn, self.hidden),
        }  # fmt: skip

    @property
    def parameters(self) -> int:
        """Of all layers, the embedding, the head and the norms."""
        layer = sum(depth * columns for depth, columns in self.layer_weights.values())
        norms = (2 * self.layers + 1) * self.hidden
        return self.layers * layer + 2 * self.vocabulary * self.hidden + norms


def embedding(shape: Shape, tokens: int) -> ir.Model:
    """Tokens in, their vectors out; the table is stored as bfloat16."""
    text = f"""{_HEADER}
        embed (int64[1,{tokens}] input_ids, bfloat16[{shape.vocabulary},{shape.hidden}] table)
        => (float[1,{tokens},{shape.hidden}] hidden) {{
            rows = Gather(table, input_ids)
            hidden = Cast<to = 1>(rows)
        }}"""
    table = _draw(7, (shape.vocabulary, shape.hidden), 1.0).astype(ml_dtypes.bfloat16)
    return _model(text, {"table": table})


def layer(shape: Shape, tokens: int, index: int, weights: dict[str, Array]) -> ir.Model:
    """One layer of the weights given; its cache is called by its index."""
    h, n, d, t, length = shape.hidden, shape.heads, shape.size, tokens, shape.length
    cache = f"float[1,{n},{length},{d}]"
    stored = _declared(shape, shape.layer_weights)
    decoded = "".join(_DECODED.format(name=m, block=shape.block) for m in shape.layer_weights)
    past, present = f"past_{index}", f"present_{index}"
    text = f"""{_HEADER}
        layer (float[1,{t},{h}] hidden, int64[1] position, {cache} {past}_key,
               {cache} {past}_value, {stored}, float[{h}] norm1, float[{h}] norm2,
               int64[4] split, int64[3] join, int64[1] last, float epsilon, int64[{t}] steps,
               float[{length},{d}] cosines, float[{length},{d}] sines, int64[4] column,
               int64[4] row, int64[4] wide, int64[{length}] places, float shown,
               float covered, float scale)
        => (float[1,{t},{h}] after, {cache} {present}_key, {cache} {present}_value) {{{decoded}
            {_NORM.format(x="hidden", y="a", weight="norm1")}
            at = Add(position, steps)
            cos = Gather(cosines, at)
            sin = Gather(sines, at)
            q0 = MatMul(a, wq)
            k0 = MatMul(a, wk)
            v0 = MatMul(a, wv)
            q1 = Reshape(q0, split)
            k1 = Reshape(k0, split)
            v1 = Reshape(v0, split)
            q2 = Transpose<perm = [0, 2, 1, 3]>(q1)
            k2 = Transpose<perm = [0, 2, 1, 3]>(k1)
            v = Transpose<perm = [0, 2, 1, 3]>(v1)
            {_ROTATE.format(x="q2", y="q")}
            {_ROTATE.format(x="k2", y="k")}
            rows = Reshape(at, column)
            numbers = Expand(rows, wide)
            {present}_key = ScatterElements<axis = 2>({past}_key, numbers, k)
            {present}_value = ScatterElements<axis = 2>({past}_value, numbers, v)
            before = Reshape(places, row)
            hidden_rows = Greater(before, rows)
            mask = Where(hidden_rows, covered, shown)
            turned = Transpose<perm = [0, 1, 3, 2]>({present}_key)
            products = MatMul(q, turned)
            scaled = Mul(products, scale)
            masked = Add(scaled, mask)
            shares = Softmax<axis = 3>(masked)
            seen = MatMul(shares, {present}_value)
            heads = Transpose<perm = [0, 2, 1, 3]>(seen)
            joined = Reshape(heads, join)
            attended = MatMul(joined, wo)
            middle = Add(hidden, attended)
            {_NORM.format(x="middle", y="b", weight="norm2")}
            g0 = MatMul(b, gate)
            g1 = Sigmoid(g0)
            g = Mul(g0, g1)
            u = MatMul(b, up)
            gu = Mul(g, u)
            down0 = MatMul(gu, down)
            after = Add(middle, down0)
        }}"""
    cosines, sines = rotation(shape)
    norm1, norm2 = _norms(shape, index)
    constants: dict[str, Array] = {
        "norm1": norm1, "norm2": norm2,
        "split": np.array([1, t, n, d]), "join": np.array([1, t, h]), "last": np.array([-1]),
        "epsilon": np.array(_EPSILON, np.float32), "steps": np.arange(t),
        "cosines": cosines, "sines": sines,
        "column": np.array([1, 1, t, 1]), "row": np.array([1, 1, 1, length]),
        "wide": np.array([1, n, t, d]), "places": np.arange(length),
        "shown": np.array(0, np.float32), "covered": np.array(-3e38, np.float32),
        "scale": np.array(d**-0.5, np.float32),
    }  # fmt: skip
    return _model(text, constants | weights)


def head(shape: Shape, tokens: int, weights: dict[str, Array]) -> ir.Model:
    """The last norm and the product that gives logits."""
    h, v = shape.hidden, shape.vocabulary
    text = f"""{_HEADER}
        head (float[1,{tokens},{h}] hidden, float[{h}] norm, {_declared(shape, {"w": (h, v)})},
              int64[1] last, float epsilon)
        => (float[1,{tokens},{v}] logits) {{{_DECODED.format(name="w", block=shape.block)}
            {_NORM.format(x="hidden", y="a", weight="norm")}
            logits = MatMul(a, w)
        }}"""
    constants: dict[str, Array] = {
        "norm": 1 + _draw(0, (h,)), "last": np.array([-1]),
        "epsilon": np.array(_EPSILON, np.float32),
    }  # fmt: skip
    return _model(text, constants | weights)


def drawn(shape: Shape, matrices: dict[str, tuple[int, int]], seed: int) -> dict[str, Array]:
    """Random matrices of (depth, columns), quantized one by one: integers and their scales."""
    quantizer = QuantizeWeights(bits=shape.bits, block=shape.block, scales=shape.scales)
    found: dict[str, Array] = {}
    for place, (name, size) in enumerate(matrices.items()):
        numbers, scales = quantizer.quantize(_draw(100 * seed + place, size[::-1]))
        found[f"{name}_stored"] = np.ascontiguousarray(numbers.T)
        found[f"{name}_scale"] = np.ascontiguousarray(scales.T)
    return found


def rotation(shape: Shape) -> tuple[Reals, Reals]:
    """Cosines and sines of rotary embeddings, (length, size)."""
    half = shape.size // 2
    speed = _BASE ** -(np.arange(half) / half)
    angles = np.arange(shape.length)[:, None] * np.tile(speed, 2)
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def reference(
    shape: Shape,
    index: int,
    weights: dict[str, Array],
    hidden: Array,
    past: Mapping[str, Array],
    position: int,
) -> Array:
    """The output of a layer in float64, from its stored weights."""
    w = {name: _matrix(weights, name, shape.block) for name in shape.layer_weights}
    norms = [each.astype(np.float64) for each in _norms(shape, index)]
    x = hidden[0].astype(np.float64)
    tokens, last = len(x), position + len(x)
    a = _normalized(x, norms[0])
    q, k, v = (
        (a @ w[name]).reshape(tokens, shape.heads, shape.size).swapaxes(0, 1)
        for name in ("wq", "wk", "wv")
    )
    cos, sin = (table[position:last].astype(np.float64) for table in rotation(shape))
    q, k = (_turned(each, cos, sin) for each in (q, k))
    keys, values = (past[name][0, :, :position].astype(np.float64) for name in ("key", "value"))
    keys, values = np.concatenate([keys, k], 1), np.concatenate([values, v], 1)
    scores = q @ keys.swapaxes(1, 2) / np.sqrt(shape.size)
    hidden_rows = np.arange(last) > np.arange(position, last)[:, None]
    scores = np.where(hidden_rows, -np.inf, scores)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    seen = shares / shares.sum(-1, keepdims=True) @ values
    middle = x + seen.swapaxes(0, 1).reshape(tokens, shape.hidden) @ w["wo"]
    b = _normalized(middle, norms[1])
    g = b @ w["gate"]
    result: Array = (middle + (g / (1 + np.exp(-g)) * (b @ w["up"])) @ w["down"])[None]
    return result


def _normalized(x: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    mean: NDArray[np.float64] = np.mean(x * x, axis=-1, keepdims=True)
    return x / np.sqrt(mean + _EPSILON) * weight


def _turned(
    x: NDArray[np.float64], cos: NDArray[np.float64], sin: NDArray[np.float64]
) -> NDArray[np.float64]:
    low, high = np.split(x, 2, axis=-1)
    return x * cos + np.concatenate([-high, low], -1) * sin


def _matrix(weights: dict[str, Array], name: str, block: int) -> NDArray[np.float64]:
    stored, scales = weights[f"{name}_stored"], weights[f"{name}_scale"]
    steps = np.repeat(scales.astype(np.float64), block, axis=0)[: len(stored)]
    return stored.astype(np.float64) * steps


def _norms(shape: Shape, index: int) -> list[Reals]:
    return [1 + _draw(1000 + 2 * index + place, (shape.hidden,)) for place in range(2)]


def _declared(shape: Shape, matrices: dict[str, tuple[int, int]]) -> str:
    """What a graph takes for each matrix."""
    return ", ".join(
        f"int{shape.bits}[{depth},{columns}] {name}_stored, "
        f"float[{-(-depth // shape.block)},{columns}] {name}_scale"
        for name, (depth, columns) in matrices.items()
    )


def _draw(seed: int, shape: tuple[int, ...], spread: float = _SPREAD) -> Reals:
    numbers = np.random.default_rng(seed).standard_normal(shape, np.float32)
    numbers *= np.float32(spread)
    return numbers


def _model(text: str, constants: dict[str, Array]) -> ir.Model:
    """Parse a graph whose constants are listed among its inputs."""
    model = onnx_ir.from_onnx_text(text)
    graph = model.graph
    for value in [v for v in graph.inputs if v.name in constants]:
        graph.inputs.remove(value)
        value.const_value = ir.tensor(constants[str(value.name)], name=value.name)
        graph.register_initializer(value)
    return ir.prepare(model)
