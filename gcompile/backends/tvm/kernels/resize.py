"""Resizing of images: each output pixel is a weighted sum of a few input pixels.

Which pixels, and with which weights, are tables along each axis that the caller computes once
(`taps_along`), so that one kernel serves every mode and coordinate transformation of ONNX.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import write
from gcompile.backends.tvm.kernels.function import (
    Argument,
    Code,
    Tensors,
    kernel_code,
    tasks,
    view,
)
from gcompile.backends.tvm.kernels.image_access import Position, fill_halo, load
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, for_each_vector
from gcompile.backends.tvm.kernels.spec import Image, Kernel, Source
from gcompile.backends.tvm.kernels.window import rows_of_task
from gcompile.errors import CompileError, UnknownNameError

_FLOAT_BITS = 32
_VECTORS_AT_ONCE = 2

Floats = npt.NDArray[np.float32]

COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
)
"""The coordinate transformations there are tables for."""


@dataclass(frozen=True, slots=True)
class Taps:
    """What each output along one axis reads.

    Attributes:
        indices: (taps, outputs) int32, of pixels inside the image.
        weights: (taps, outputs) float32.
    """

    indices: npt.NDArray[np.int32]
    weights: Floats


@dataclass(frozen=True, slots=True)
class ResizeKernel(Kernel):
    """Resize `x`, then the expression, which sees the weighted sum as `Accumulator`.

    Attributes:
        taps: Pixels read along rows of the output and along columns; with one each, weights are
            not read, and the sum is the pixel itself.
    """

    x: Source = Source(Image(1, 1, 1, 1))
    taps: tuple[int, int] = (1, 1)


def taps_along(
    size: int,
    outputs: int,
    scale: float,
    mode: str = "nearest",
    coordinates: str = "half_pixel",
    rounding: str = "round_prefer_floor",
) -> Taps:
    """The tables of ONNX Resize along one axis, in float32 as ONNX Runtime computes them.

    Args:
        size: Pixels of the input.
        outputs: Pixels of the output.
        scale: Output pixels for each input pixel, as the node has it.
        mode: `nearest` or `linear`.
        coordinates: The node's `coordinate_transformation_mode`, other than `tf_crop_and_resize`.
        rounding: The node's `nearest_mode`.

    Raises:
        UnknownNameError: There is no such coordinate transformation, mode or rounding.
    """
    place = _coordinates(size, outputs, np.float32(scale), coordinates)
    last = size - 1
    if mode == "nearest":
        if rounding not in _ROUNDINGS:
            raise UnknownNameError("nearest mode", rounding, _ROUNDINGS)
        nearest = np.clip(_ROUNDINGS[rounding](place), 0, last).astype(np.int32)
        return Taps(nearest[None], np.ones((1, outputs), np.float32))
    if mode != "linear":
        raise UnknownNameError("resize mode", mode, ("nearest", "linear"))
    place = np.clip(place, 0, last)
    lower = np.floor(place)
    upper_weight = (place - lower).astype(np.float32)
    indices = np.stack([lower, np.minimum(lower + 1, last)]).astype(np.int32)
    return Taps(indices, np.stack([1 - upper_weight, upper_weight]).astype(np.float32))


_HALF = np.float32(0.5)

_ROUNDINGS: dict[str, Callable[[Floats], Floats]] = {
    "round_prefer_floor": lambda x: np.ceil(x - _HALF),
    "round_prefer_ceil": lambda x: np.floor(x + _HALF),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _coordinates(size: int, outputs: int, scale: np.float32, name: str) -> Floats:
    x = np.arange(outputs, dtype=np.float32)
    half_pixel: Floats = (x + _HALF) / scale - _HALF
    match name:
        case "half_pixel":
            return half_pixel
        case "pytorch_half_pixel":
            return half_pixel if outputs > 1 else np.zeros_like(x)
        case "half_pixel_symmetric":
            adjustment = np.float32(outputs) / (scale * np.float32(size))
            offset = np.float32(size) / np.float32(2) * (np.float32(1) - adjustment)
            symmetric: Floats = offset + half_pixel
            return symmetric
        case "align_corners":
            if outputs == 1:
                return np.zeros_like(x)
            aligned: Floats = x * np.float32(size - 1) / np.float32(outputs - 1)
            return aligned
        case "asymmetric":
            asymmetric: Floats = x / scale
            return asymmetric
    raise UnknownNameError("coordinate transformation", name, COORDINATES)


def emit(kernel: ResizeKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: ResizeKernel) -> Code:
    """Emit a resize.

    The function's arguments are x; the indices and weights of the taps along rows, then those
    along columns; the channel vectors, the sources and the output.

    Raises:
        CompileError: The batch or the channels would change.
    """
    image, output = kernel.x.image, kernel.output.image
    if (image.batch, image.channels) != (output.batch, output.channels):
        raise CompileError("Only height and width can be resized.")
    leading = [Argument.of_image("x", image)]
    for name, taps, size in zip(
        ("row", "column"), kernel.taps, (output.height, output.width), strict=True
    ):
        leading.append(Argument(f"{name}_indices", (taps, size), "int32"))
        leading.append(Argument(f"{name}_weights", (taps, size), "float32"))

    def body(buffers: list[Buffer], tensors: Tensors) -> None:
        leading = [view(buffers[0], image.shape), *buffers[1:]]
        tasks(kernel.threads, _Resize(kernel, leading, tensors).task)

    return kernel_code(kernel, leading, body)


@dataclass(frozen=True, slots=True)
class _Resize:
    """One kernel while it is being emitted."""

    kernel: ResizeKernel
    leading: list[Buffer]
    tensors: Tensors

    def task(self, task: Expr) -> None:
        kernel, image = self.kernel, self.kernel.output.image
        fill_halo(image, self.tensors.output, kernel.vector_bits, task, kernel.threads)
        rows_of_task(image.batch, image.height, task, kernel.threads, self._row)

    def _row(self, batch: Expr, y: Expr) -> None:
        _, row_indices, row_weights, column_indices, column_weights = self.leading
        rows = [
            (bind(row_indices[tap, y]), bind(row_weights[tap, y]))
            for tap in range(self.kernel.taps[0])
        ]
        with T.serial(self.kernel.output.image.width) as x:
            columns = [
                (bind(column_indices[tap, x]), bind(column_weights[tap, x]))
                for tap in range(self.kernel.taps[1])
            ]
            taps = [
                (row, column, bind(row_weight * column_weight))
                for row, row_weight in rows
                for column, column_weight in columns
            ]
            self._pixel(Position(batch, y, x, 0), taps)

    def _pixel(self, place: Position, taps: list[tuple[Expr, Expr, Expr]]) -> None:
        def vector(offset: Expr, lanes: Lanes) -> None:
            total = Register.of("float32", lanes)
            for index, (row, column, weight) in enumerate(taps):
                read = Position(place.batch, row, column, offset)
                value = load(self.kernel.x, self.leading[0], read, lanes)
                if len(taps) == 1:
                    total.set(value)
                elif index == 0:
                    total.set(value * lanes.splat(weight))
                else:
                    total.set(total.value + value * lanes.splat(weight))
            write(self.kernel, self.tensors, place.moved(offset), lanes, total.value)

        widest = _VECTORS_AT_ONCE * self.kernel.vector_bits // _FLOAT_BITS
        for_each_vector(self.kernel.output.image.channels, widest, vector)
