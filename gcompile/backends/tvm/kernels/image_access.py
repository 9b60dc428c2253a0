"""Reading and writing images: halo offsets, broadcasting, and the conversion of stored numbers.

Real numbers are float32 vectors. Nothing here reads or writes outside the lanes it is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import ml_dtypes
import numpy as np
from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import loop, share, view, when
from gcompile.backends.tvm.kernels.lanes import Lanes, bind, for_each_vector
from gcompile.backends.tvm.kernels.spec import Image, Output, Source

_RANGES = {"uint8": (0, 255), "int8": (-128, 127), "int32": (-(2**31), 2**31 - 1)}


@dataclass(frozen=True, slots=True)
class Position:
    """Logical coordinates of a pixel, halo excluded, and the first of its channels."""

    batch: Expr
    y: Expr
    x: Expr
    channel: Expr

    def moved(self, channels: int) -> Position:
        """The same pixel, some channels further."""
        return replace(self, channel=self.channel + channels)


def load(source: Source, buffer: Buffer, position: Position, lanes: Lanes) -> Expr:
    """The real values of consecutive channels. Dimensions of size 1 are broadcast."""
    image = source.image
    pixel = (
        position.batch if image.batch > 1 else 0,
        image.halo[0] + (position.y if image.height > 1 else 0),
        image.halo[1] + (position.x if image.width > 1 else 0),
    )
    if image.channels > 1:
        stored = buffer[(*pixel, lanes.index(position.channel))]
        return to_real(source, stored, lanes)
    return lanes.splat(bind(to_real(source, buffer[(*pixel, 0)], Lanes(1))))


def to_real(source: Source, stored: Expr, lanes: Lanes) -> Expr:
    """What stored numbers mean: (stored - zero_point) · scale, or the number itself."""
    dtype = source.image.dtype
    if dtype == "float32":
        return stored
    if dtype == "float16":
        return lanes.cast("float32", stored)
    if dtype == "bfloat16":
        return widen_bfloat16(stored, lanes)
    number = stored if dtype == "int32" else lanes.cast("int32", stored)
    if source.zero_point:
        number = number - lanes.splat(source.zero_point, "int32")
    real = lanes.cast("float32", number)
    return real if source.scale == 1.0 else real * lanes.splat(source.scale)


def store(output: Output, buffer: Buffer, position: Position, real: Expr, lanes: Lanes) -> None:
    """Write the real values of consecutive channels as the output stores them."""
    top, left, _, _ = output.image.halo
    channels = lanes.index(position.channel)
    indices = [position.batch, top + position.y, left + position.x, channels]
    T.buffer_store(buffer, from_real(output, real, lanes), indices)


def from_real(output: Output, real: Expr, lanes: Lanes) -> Expr:
    """Round to the stored type: to nearest, ties to even; integers saturate.

    Integers are scaled by the reciprocal of `scale`, which differs from a division only where the
    quotient lies within a rounding error of a tie.
    """
    dtype = output.image.dtype
    if dtype == "float32":
        return real
    if dtype == "float16":
        return lanes.cast("float16", real)
    if dtype == "bfloat16":
        return narrow_to_bfloat16(real, lanes)
    scaled = real if output.scale == 1.0 else real * lanes.splat(1.0 / output.scale)
    return _saturate(scaled, dtype, output.zero_point, lanes)


def widen_bfloat16(stored: Expr, lanes: Lanes) -> Expr:
    """The float32 whose upper half the bfloat16 is."""
    bits = lanes.cast("uint32", stored) << lanes.splat(16, "uint32")
    return lanes.reinterpret("float32", bits)


def narrow_to_bfloat16(real: Expr, lanes: Lanes) -> Expr:
    """bfloat16 bits of a float32, rounded to nearest even; NaN stays NaN."""
    bits = bind(lanes.reinterpret("uint32", real))
    sixteen = lanes.splat(16, "uint32")
    odd = (bits >> sixteen) & lanes.splat(1, "uint32")
    rounded = (bits + lanes.splat(0x7FFF, "uint32") + odd) >> sixteen
    magnitude = bits & lanes.splat(0x7FFFFFFF, "uint32")
    is_nan = magnitude > lanes.splat(0x7F800000, "uint32")
    return lanes.cast("uint16", T.Select(is_nan, lanes.splat(0x7FC0, "uint32"), rounded))


def fill_value(image: Image) -> int | float:
    """The halo's value as the image stores it."""
    if image.dtype == "bfloat16":
        return int(np.float32(image.fill).astype(ml_dtypes.bfloat16).view(np.uint16))
    return image.fill if image.dtype.startswith("float") else int(image.fill)


def fill_halo(
    image: Image, buffer: Buffer, vector_bits: int, task: Expr = 0, threads: int = 1
) -> None:
    """Write the task's share of the halo of an image. Memory is reused: do so on every call."""
    if not any(image.halo):
        return
    top, left, bottom, right = image.halo
    _, rows, columns, channels = image.shape
    line = columns * channels
    flat = view(buffer, (image.size,))
    width = vector_bits // (np.dtype(image.storage_dtype).itemsize * 8)
    value = fill_value(image)

    def run(start: Expr, length: int) -> None:
        def write(offset: Expr, lanes: Lanes) -> None:
            filled = lanes.splat(value, image.storage_dtype)
            T.buffer_store(flat, filled, [lanes.index(start + offset)])

        for_each_vector(length, width, write)

    def sides(first: Expr, y: Expr) -> None:
        start = T.Bind(first + (top + y) * line)
        run(start, left * channels)
        run(start + (left + image.width) * channels, right * channels)

    with T.serial(image.batch) as batch:
        first = batch * (rows * line)
        if top:
            when(task < 1, lambda: run(first, top * line))
        if bottom:
            below = first + (top + image.height) * line
            when(task >= threads - 1, lambda: run(below, bottom * line))
        if left or right:
            start, stop = share(image.height, task, threads)
            loop(start, stop, lambda y: sides(first, y))


def _saturate(scaled: Expr, dtype: str, zero_point: int, lanes: Lanes) -> Expr:
    """Round, then clamp as integers, which the narrowing instructions of most machines do.

    A float below the range of int32 converts to its lowest value, which is clamped rightly; one
    above does too, so that side is clamped before.
    """
    low, high = _RANGES[dtype]
    if dtype == "int32":
        return _round_to_int32(scaled, zero_point, lanes)
    held = T.min(lanes.splat(float(high - zero_point)), scaled)
    if zero_point < 0:  # Adding it could pass the lowest int32.
        held = T.max(lanes.splat(float(low - zero_point)), held)
    number = T.call_llvm_pure_intrin(lanes.type("int32"), "llvm.lrint", held)
    if zero_point:
        number = number + lanes.splat(zero_point, "int32")
    clamped = T.min(T.max(number, lanes.splat(low, "int32")), lanes.splat(high, "int32"))
    return lanes.cast(dtype, clamped)


def _round_to_int32(scaled: Expr, zero_point: int, lanes: Lanes) -> Expr:
    low, high = _RANGES["int32"]
    total = bind(T.nearbyint(scaled) + lanes.splat(float(zero_point)))
    below_high = T.min(lanes.splat(float(np.nextafter(np.float32(2**31), 0))), total)
    inside = lanes.cast("int32", T.max(lanes.splat(float(low)), below_high))
    overflows = total >= lanes.splat(float(2**31))
    return T.Select(overflows, lanes.splat(high, "int32"), inside)
