"""Networks to prune: attention, and random ones of whole numbers, exact in any order."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from hypothesis import strategies as st

from gcompile import ir
from tests.passes.example_models import ATTENTION_OF_QKV, HEADER

ATTENTION = (
    """
    g (float[1,5,4] x) => (float[1,5,4] y)
    <float[4,6] wq, float[4,6] wk, float[4,6] wv, float[6,4] wo, float[4] bo,
     int64[4] heads = {1, 5, 3, 2}, int64[3] whole = {1, 5, 6}> {
        q = MatMul(x, wq)
        k = MatMul(x, wk)
        v = MatMul(x, wv)
        """
    + ATTENTION_OF_QKV
    + "}"
)


@dataclass
class Network:
    """ONNX text of a network that is grown layer by layer.

    Attributes:
        shapes: Channels, height and width of every image so far, by name.
    """

    rng: np.random.Generator
    shapes: dict[str, tuple[int, int, int]]
    lines: list[str] = field(default_factory=list)
    constants: list[str] = field(default_factory=list)

    def constant(
        self, kind: str, shape: tuple[int, ...], numbers: ir.Array | int | None = None
    ) -> str:
        """Declare a constant: whole numbers from -2 to 2, unless numbers are given."""
        name = f"k{len(self.constants)}"
        drawn = self.rng.integers(-2, 3, shape) if numbers is None else numbers
        listed = ", ".join(str(n) for n in np.asarray(drawn).reshape(-1))
        dims = f"[{','.join(map(str, shape))}]" if shape else ""
        self.constants.append(f"{kind}{dims} {name} = {{{listed}}}")
        return name

    def add(self, text: str, shape: tuple[int, int, int]) -> str:
        """Add a node that makes an image, and clip it: numbers stay small."""
        name = f"v{len(self.lines)}"
        low, high = (
            self.constant("float", (), np.array(-4)),
            self.constant("float", (), np.array(4)),
        )
        self.lines += [f"{name}_wide = {text}", f"{name} = Clip({name}_wide, {low}, {high})"]
        self.shapes[name] = shape
        return name

    def text(self, output: str) -> str:
        """A model with two readers of the last image: its pixels, and its means."""
        c, h, w = self.shapes[output]
        flat = self.constant("float", (c * h * w, 3))
        image = self.shapes["x"]
        body = "\n".join([*self.lines, f"f = Flatten({output})", f"y = MatMul(f, {flat})"])
        return (
            f"{HEADER} g (float[1,{image[0]},{image[1]},{image[2]}] x) => (float[1,3] y)\n"
            f"<{', '.join(self.constants)}> {{\n{body}\n}}"
        )


def _conv(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    made, kernel = draw(st.integers(2, 5)), draw(st.sampled_from((1, 3)))
    weight = net.constant("float", (made, c, kernel, kernel))
    bias = net.constant("float", (made,))
    return net.add(f"Conv<pads = {[kernel // 2] * 4}>({name}, {weight}, {bias})", (made, h, w))


def _depthwise(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    made = c * draw(st.integers(1, 2))
    weight = net.constant("float", (made, 1, 3, 3))
    return net.add(f"Conv<group = {c}, pads = [1, 1, 1, 1]>({name}, {weight})", (made, h, w))


def _grouped(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    if c % 2:
        return _conv(draw, net, name)
    weight = net.constant("float", (4, c // 2, 1, 1))
    return net.add(f"Conv<group = 2>({name}, {weight})", (4, h, w))


def _transposed(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    made = draw(st.integers(2, 4))
    weight = net.constant("float", (c, made, 1, 1))
    return net.add(f"ConvTranspose({name}, {weight})", (made, h, w))


def _residual(draw: st.DrawFn, net: Network, name: str) -> str:
    alike = [other for other, shape in net.shapes.items() if shape == net.shapes[name]]
    operator = draw(st.sampled_from(("Add", "Mul", "Max")))
    return net.add(f"{operator}({name}, {draw(st.sampled_from(alike))})", net.shapes[name])


def _concat(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    other = draw(st.sampled_from(sorted(net.shapes)))
    return net.add(f"Concat<axis = 1>({other}, {name})", (net.shapes[other][0] + c, h, w))


def _scale(draw: st.DrawFn, net: Network, name: str) -> str:
    c = net.shapes[name][0]
    shape = draw(st.sampled_from(((c, 1, 1), (1, c, 1, 1))))
    operator = draw(st.sampled_from(("Mul", "Add")))
    return net.add(f"{operator}({name}, {net.constant('float', shape)})", net.shapes[name])


def _part(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    start = draw(st.integers(0, c - 1))
    end = draw(st.integers(start + 1, c))
    first, last = (net.constant("int64", (1,), n) for n in (start, end))
    axis = net.constant("int64", (1,), 1)
    return net.add(f"Slice({name}, {first}, {last}, {axis})", (end - start, h, w))


def _pad(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
    pads = net.constant("int64", (8,), np.array([0, before, 0, 0, 0, after, 0, 0]))
    return net.add(f"Pad({name}, {pads})", (c + before + after, h, w))


def _split(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    if c < 2:
        return _conv(draw, net, name)
    first = draw(st.integers(1, c - 1))
    sizes = net.constant("int64", (2,), np.array([first, c - first]))
    number = len(net.lines)
    net.lines.append(f"s{number}, t{number} = Split<axis = 1>({name}, {sizes})")
    return net.add(f"Concat<axis = 1>(t{number}, s{number})", (c, h, w))


def _shuffle(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    if c % 2:
        return _conv(draw, net, name)
    apart = net.constant("int64", (5,), np.array([1, 2, c // 2, h, w]))
    joined = net.constant("int64", (4,), np.array([1, c, h, w]))
    number = len(net.lines)
    net.lines += [
        f"a{number} = Reshape({name}, {apart})",
        f"b{number} = Transpose<perm = [0, 2, 1, 3, 4]>(a{number})",
    ]
    return net.add(f"Reshape(b{number}, {joined})", (c, h, w))


def _squeeze_and_excite(draw: st.DrawFn, net: Network, name: str) -> str:
    c, h, w = net.shapes[name]
    number = len(net.lines)
    weight = net.constant("float", (c, c, 1, 1))
    net.lines += [
        f"p{number} = GlobalMaxPool({name})",
        f"q{number} = Conv(p{number}, {weight})",
        f"r{number} = Relu(q{number})",
    ]
    return net.add(f"Mul({name}, r{number})", (c, h, w))


LAYERS = (_conv, _conv, _depthwise, _grouped, _transposed, _residual, _residual, _concat, _scale,
          _part, _pad, _split, _shuffle, _squeeze_and_excite)  # fmt: skip


@st.composite
def networks(draw: st.DrawFn, most_layers: int = 7) -> ir.Model:
    """Draw a network of images, read pixel by pixel at its end."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    net = Network(rng, {"x": (draw(st.integers(2, 3)), 3, 2)})
    name = _conv(draw, net, "x")
    for _ in range(draw(st.integers(1, most_layers))):
        name = draw(st.sampled_from(LAYERS))(draw, net, name)
    return ir.parse(net.text(name))
