"""Random kernels that no unit carries, with operands and what they should compute in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import ml_dtypes
import numpy as np
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import (
    copy_regions,
    depthwise,
    elementwise,
    normalize,
    pool,
    reduce,
    resize,
    softmax,
    transpose,
)
from gcompile.backends.tvm.kernels.copy_regions import CopyKernel, concatenation
from gcompile.backends.tvm.kernels.function import Code
from gcompile.backends.tvm.kernels.normalize import NormalizeKernel
from gcompile.backends.tvm.kernels.reduce import ReduceKernel
from gcompile.backends.tvm.kernels.resize import ResizeKernel, Taps, taps_along
from gcompile.backends.tvm.kernels.softmax import SoftmaxKernel
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    DepthwiseKernel,
    ElementwiseKernel,
    Image,
    Load,
    Output,
    PerChannel,
    PoolKernel,
    Source,
    TransposeKernel,
    Unary,
)
from tests.backends.tvm.kernels.compiling import Array, inside, with_halo
from tests.backends.tvm.kernels.products import convolution, sums

T = TypeVar("T")

_SCALE, _ZERO_POINT = 0.05, 100
"""What bytes mean."""

_X = Accumulator()


@dataclass(frozen=True)
class Case:
    """One call of a kernel.

    Attributes:
        inputs: The arguments before the output, as they are stored.
        expected: The real numbers that are written, channels last, halo excluded.
    """

    code: Code
    inputs: Sequence[Array]
    output: Output
    expected: Array


class Draw(Protocol):
    """What takes an example of a strategy."""

    def __call__(self, strategy: st.SearchStrategy[T], label: object = None) -> T:
        """Draw one."""
        ...


Make = Callable[[Draw, str, int], Case]
"""Make a case of a type of numbers, for vectors of so many bits."""


def as_stored(output: Output, real: Array) -> Array:
    """Real numbers as the output stores them, in float64."""
    if output.image.dtype == "uint8":
        return np.asarray(np.clip(np.rint(real / output.scale) + output.zero_point, 0, 255))
    return np.asarray(real.astype(_numpy(output.image.dtype)).astype(np.float64))


def _elementwise(draw: Draw, dtype: str, bits: int) -> Case:
    size = draw(_SIZES)
    x, row = _source(draw, size, dtype), _source(draw, (1, 1, 1, size[3]), dtype)
    kernel = ElementwiseKernel(
        output=_output(draw, size, dtype),
        expression=Unary("relu", Binary("add", Binary("mul", Load(0), PerChannel(0)), Load(1))),
        sources=(x, row),
        channel_vectors=1,
        vector_bits=bits,
        threads=draw(_THREADS),
    )
    factor = np.linspace(-1, 1, size[3], dtype=np.float32)
    stored = [_numbers(x, 1), _numbers(row, 2)]
    expected = np.maximum(_real(x, stored[0]) * factor + _real(row, stored[1]), 0)
    return Case(elementwise.code(kernel), [factor, *stored], kernel.output, expected)


def _depthwise(draw: Draw, dtype: str, bits: int) -> Case:
    return _convolved(draw, dtype, bits, 1, 1)


def _narrow_groups(draw: Draw, dtype: str, bits: int) -> Case:
    return _convolved(draw, dtype, bits, draw(st.integers(1, 3)), draw(st.sampled_from([2, 4])))


def _convolved(draw: Draw, dtype: str, bits: int, ins: int, outs: int) -> Case:
    batch, height, width, groups = draw(_SIZES)
    window = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    pads = (window[0] - 1, window[1] - 1, 1, 1)
    strides = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    contraction = convolution(
        (batch, height, width, groups * ins), groups * outs, window, strides, pads=pads,
        groups=groups,
    )  # fmt: skip
    x = Image(batch, height, width, groups * ins, dtype, pads)
    sizes = (batch, contraction.out_h, contraction.out_w, groups * outs)
    kernel = DepthwiseKernel(
        output=_output(draw, sizes, "float32"),
        expression=_X,
        vector_bits=bits,
        threads=draw(_THREADS),
        contraction=contraction,
        x=x,
    )
    stored = _numbers(Source(x))
    weights = np.random.default_rng(3).integers(-9, 9, (groups * outs, ins, *window))
    packed = weights.transpose(2, 3, 1, 0).reshape(-1, ins, groups * outs).astype(np.float32)
    packed = packed[:, 0] if ins == 1 else packed
    expected = sums(kernel, inside(x, stored), weights)
    return Case(depthwise.code(kernel), [stored, packed], kernel.output, expected)


def _pool(draw: Draw, dtype: str, bits: int) -> Case:
    batch, height, width, channels = draw(_SIZES)
    size = (batch, height + 1, width + 2, channels)
    strides = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    contraction = convolution(size, channels, (2, 3), strides, groups=channels)
    x = _source(draw, size, dtype)
    function = draw(st.sampled_from(["max", "average"]))
    kernel = PoolKernel(
        output=_output(draw, (batch, contraction.out_h, contraction.out_w, channels), dtype),
        expression=_X,
        vector_bits=bits,
        threads=draw(_THREADS),
        contraction=contraction,
        x=x.image,
        function=function,
        x_scale=x.scale,
        x_zero_point=x.zero_point,
    )
    stored = _numbers(x)
    windows = np.lib.stride_tricks.sliding_window_view(_real(x, stored), (2, 3), (1, 2))
    windows = windows[:, :: strides[0], :: strides[1]]
    expected = (np.max if function == "max" else np.mean)(windows, axis=(-1, -2))
    return Case(pool.code(kernel), [stored], kernel.output, np.asarray(expected))


def _resize(draw: Draw, dtype: str, bits: int) -> Case:
    batch, height, width, channels = draw(_SIZES)
    out_h, out_w = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    mode = draw(st.sampled_from(["nearest", "linear"]))
    taps = [taps_along(a, b, b / a, mode) for a, b in ((height, out_h), (width, out_w))]
    x = _source(draw, (batch, height, width, channels), dtype)
    kernel = ResizeKernel(
        output=_output(draw, (batch, out_h, out_w, channels), dtype),
        expression=_X,
        vector_bits=bits,
        threads=draw(_THREADS),
        x=x,
        taps=(len(taps[0].indices), len(taps[1].indices)),
    )
    stored = _numbers(x)
    tables = [table for axis in taps for table in (axis.indices, axis.weights)]
    down, across = (_matrix(axis, size) for axis, size in zip(taps, (height, width), strict=True))
    expected = np.einsum("yh,xw,nhwc->nyxc", down, across, _real(x, stored))
    return Case(resize.code(kernel), [stored, *tables], kernel.output, expected)


def _matrix(taps: Taps, size: int) -> Array:
    matrix = np.zeros((taps.indices.shape[1], size))
    for indices, weights in zip(taps.indices, taps.weights, strict=True):
        np.add.at(matrix, (np.arange(len(matrix)), indices), weights)
    return matrix


def _copy(draw: Draw, dtype: str, bits: int) -> Case:
    size, axis = draw(_SIZES), draw(st.integers(0, 3))
    sources = []
    for extent in draw(st.lists(st.integers(1, 20), min_size=1, max_size=3)):
        part = list(size)
        part[axis] = extent
        sources.append(_source(draw, part, dtype))
    stored = [_numbers(source, seed) for seed, source in enumerate(sources)]
    expected = np.concatenate(
        [_real(source, array) for source, array in zip(sources, stored, strict=True)], axis
    )
    kernel = CopyKernel(
        output=_output(draw, expected.shape, dtype),
        expression=_X,
        sources=tuple(sources),
        vector_bits=bits,
        threads=draw(_THREADS),
        regions=concatenation(tuple(source.image for source in sources), axis),
    )
    return Case(copy_regions.code(kernel), stored, kernel.output, expected)


def _reduce(draw: Draw, dtype: str, bits: int) -> Case:
    size = draw(_SIZES)
    axes = tuple(sorted(draw(st.sets(st.integers(0, 3), min_size=1, max_size=3))))
    function = draw(st.sampled_from(["sum", "max"]))
    x = _source(draw, size, dtype)
    stored = _numbers(x)
    real = _real(x, stored)
    expected = (np.sum if function == "sum" else np.max)(real, axis=axes, keepdims=True)
    kernel = ReduceKernel(
        output=_output(draw, expected.shape, "float32"),
        expression=_X,
        sources=(x,),
        vector_bits=bits,
        threads=draw(_THREADS),
        extents=size,
        function=function,
    )
    return Case(reduce.code(kernel), [stored], kernel.output, np.asarray(expected))


def _softmax(draw: Draw, dtype: str, bits: int) -> Case:
    size = draw(_SIZES)
    x, is_log = _source(draw, size, dtype), draw(st.booleans())
    kernel = SoftmaxKernel(
        output=_output(draw, size, "float32"),
        expression=_X,
        sources=(x,),
        vector_bits=bits,
        threads=draw(_THREADS),
        is_log=is_log,
    )
    stored = _numbers(x)
    distance = _real(x, stored)
    distance = distance - distance.max(axis=-1, keepdims=True)
    total = np.exp(distance).sum(axis=-1, keepdims=True)
    expected = distance - np.log(total) if is_log else np.exp(distance) / total
    return Case(softmax.code(kernel), [stored], kernel.output, expected)


def _normalize(draw: Draw, dtype: str, bits: int) -> Case:
    size = draw(_SIZES)
    x, is_whole = _source(draw, size, dtype), draw(st.booleans())
    kernel = NormalizeKernel(
        output=_output(draw, size, "float32"),
        expression=_X,
        sources=(x,),
        vector_bits=bits,
        threads=draw(_THREADS),
        groups=1 if is_whole else None,
        epsilon=1e-2,
    )
    stored = _numbers(x)
    real, axes = _real(x, stored), (1, 2, 3) if is_whole else (3,)
    real = real - real.mean(axis=axes, keepdims=True)
    square = np.square(real).mean(axis=axes, keepdims=True)
    expected = real / np.sqrt(square + kernel.epsilon)
    return Case(normalize.code(kernel), [stored], kernel.output, expected)


def _transpose(draw: Draw, dtype: str, bits: int) -> Case:
    batch, height, width, channels = size = draw(_SIZES)
    output = _output(draw, size, dtype)
    kernel = TransposeKernel(
        plain_shape=(batch, channels, height, width),
        plain_dtype="bfloat16" if dtype == "bfloat16" else "float32",
        image=output.image,
        to_image=True,
        scale=output.scale,
        zero_point=output.zero_point,
        vector_bits=bits,
        threads=draw(_THREADS),
    )
    plain = Image(batch, channels, height, width, kernel.plain_dtype)
    stored = _numbers(Source(plain))
    expected = _real(Source(plain), stored).transpose(0, 2, 3, 1)
    return Case(transpose.code(kernel), [stored], output, expected)


CASES: dict[str, Make] = {
    "elementwise": _elementwise,
    "depthwise": _depthwise,
    "narrow groups": _narrow_groups,
    "pool": _pool,
    "resize": _resize,
    "copy": _copy,
    "reduce": _reduce,
    "softmax": _softmax,
    "normalize": _normalize,
    "transpose": _transpose,
}

# The first choice of each is what the first example takes.
_SIZES = st.tuples(
    st.sampled_from([2, 1]),
    st.sampled_from([5, 1, 2, 3, 4]),
    st.sampled_from([3, 1, 2, 4, 6]),
    st.sampled_from([45, 1, 7, 16, 21]),
)
_THREADS = st.sampled_from([2, 1])
_HALOS = st.tuples(*[st.integers(0, 1)] * 4)


def _source(draw: Draw, size: Sequence[int], dtype: str) -> Source:
    image = Image(size[0], size[1], size[2], size[3], dtype, draw(_HALOS), 9.0)
    return Source(image, _SCALE, _ZERO_POINT) if dtype == "uint8" else Source(image)


def _output(draw: Draw, size: Sequence[int], dtype: str) -> Output:
    source = _source(draw, size, dtype)
    return replace(Output(source.image), scale=source.scale, zero_point=source.zero_point)


def _numbers(source: Source, seed: int = 0) -> Array:
    """Random contents of an image, as stored, with its halo."""
    image, rng = source.image, np.random.default_rng(seed)
    size = (image.batch, image.height, image.width, image.channels)
    is_bytes = image.dtype == "uint8"
    return with_halo(image, rng.integers(0, 256, size) if is_bytes else rng.normal(0, 2, size))


def _real(source: Source, stored: Array) -> Array:
    numbers = inside(source.image, stored).astype(np.float64)
    return np.asarray((numbers - source.zero_point) * source.scale)


def _numpy(dtype: str) -> np.dtype[np.generic]:
    return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
