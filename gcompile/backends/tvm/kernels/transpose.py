"""Change layout between plain (N, C, H, W) tensors and images, converting numbers on the way.

Squares of numbers are transposed in registers, so that both sides are read and written by whole
vectors: one side's vectors run along a row of pixels, the other's along the channels of a pixel.
Images of up to four channels, as a network's input has, are interleaved instead: all channels of a
run of pixels are one contiguous stretch of memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvm import tirx
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import Argument, Code, tasks, view
from gcompile.backends.tvm.kernels.image_access import fill_halo, from_real, to_real
from gcompile.backends.tvm.kernels.lanes import Lanes, bind, for_each_vector, pieces
from gcompile.backends.tvm.kernels.spec import Image, Output, Source, TransposeKernel
from gcompile.backends.tvm.kernels.window import rows_of_task
from gcompile.errors import CompileError

_FLOAT_BITS = 32
_WIDEST_SQUARE = 8
"""Side of the squares: 8 vectors of 8 and their transposes fit the registers of every target."""

_FEW_CHANNELS = 4


def emit(kernel: TransposeKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: TransposeKernel) -> Code:
    """Emit a change of layout. The function's arguments are what is read, then what is written.

    Raises:
        CompileError: The two sides have different sizes.
    """
    batch, channels, height, width = kernel.plain_shape
    image = kernel.image
    if (batch, height, width) != (image.batch, image.height, image.width) or (
        channels > image.channels
    ):
        raise CompileError(
            f"The plain tensor {kernel.plain_shape} and the image {image.shape} are not the same "
            "tensor in two layouts."
        )
    plain = Argument("plain", kernel.declared_plain or kernel.plain_shape, _plain_storage(kernel))
    stored = Argument.of_image("image", image)

    def body(buffers: list[Buffer]) -> None:
        first, second = buffers if kernel.to_image else reversed(buffers)
        transpose = _Transpose(
            kernel, view(first, kernel.plain_shape), view(second, (image.size,))
        )
        tasks(kernel.threads, transpose.task)

    return Code((plain, stored) if kernel.to_image else (stored, plain), body)


@dataclass(frozen=True, slots=True)
class _Transpose:
    """One kernel while it is being emitted; the image is seen as one line of numbers."""

    kernel: TransposeKernel
    plain: Buffer
    image: Buffer

    def task(self, task: Expr) -> None:
        kernel, image = self.kernel, self.kernel.image
        if kernel.to_image:
            fill_halo(
                image, view(self.image, image.shape), kernel.vector_bits, task, kernel.threads
            )
        rows_of_task(image.batch, image.height, task, kernel.threads, self._row)

    def _row(self, batch: Expr, y: Expr) -> None:
        vector = self.kernel.vector_bits // _FLOAT_BITS
        few = self.kernel.image.channels <= _FEW_CHANNELS
        widest = vector if few else min(_WIDEST_SQUARE, vector)

        def run(x: Expr, pixels: Lanes) -> None:
            place = _Run(batch, y, x, pixels)
            if few:
                self._interleaved(place)
            else:
                self._squares(place, widest)

        for_each_vector(self.kernel.image.width, widest, run)

    def _interleaved(self, run: _Run) -> None:
        """All channels of a run of pixels are consecutive in the image."""
        pixels, stored = run.pixels, self.kernel.image.channels
        together = Lanes(pixels.count * stored)
        place = together.index(self._offset(run, 0, 0))
        if self.kernel.to_image:
            rows = [self._read_plain(run, channel) for channel in range(stored)]
            order = [c * pixels.count + p for p in range(pixels.count) for c in range(stored)]
            T.buffer_store(self.image, self._to_image(_shuffle(rows, order), together), [place])
            return
        numbers = bind(self._from_image(self.image[place], together))
        for channel in range(self._channels):
            order = [p * stored + channel for p in range(pixels.count)]
            self._write_plain(run, channel, _shuffle([numbers], order))

    def _squares(self, run: _Run, widest: int) -> None:
        """Blocks of channels; those that hold padding are written out one by one."""
        count = self.kernel.image.channels if self.kernel.to_image else self._channels
        blocks = self._channels // widest
        with T.serial(blocks) as block:
            self._square(run, block * widest, Lanes(widest))
        for offset, lanes in pieces(count - blocks * widest, widest):
            self._square(run, blocks * widest + offset, lanes)

    def _square(self, run: _Run, channel: Expr, channels: Lanes) -> None:
        """A block of pixels by channels, read along one side and written along the other."""
        pixels = run.pixels
        if self.kernel.to_image:
            rows = [self._read_plain(run, channel + c) for c in range(channels.count)]
            for pixel, numbers in enumerate(transposed(rows, pixels.count)):
                place = channels.index(self._offset(run, pixel, channel))
                T.buffer_store(self.image, self._to_image(numbers, channels), [place])
            return
        columns = []
        for pixel in range(pixels.count):
            stored = self.image[channels.index(self._offset(run, pixel, channel))]
            columns.append(bind(self._from_image(stored, channels)))
        for c, numbers in enumerate(transposed(columns, channels.count)):
            self._write_plain(run, channel + c, numbers)

    def _read_plain(self, run: _Run, channel: Expr) -> Expr:
        """A run of pixels of one channel; zero where the plain tensor has no such channel."""
        if isinstance(channel, int) and channel >= self._channels:
            return run.pixels.splat(self._zero, self._working)
        stored = self.plain[run.batch, channel, run.y, run.pixels.index(run.x)]
        if self._is_copy:
            return bind(stored)
        return bind(to_real(self._plain_source, stored, run.pixels))

    def _write_plain(self, run: _Run, channel: Expr, numbers: Expr) -> None:
        place = [run.batch, channel, run.y, run.pixels.index(run.x)]
        if not self._is_copy:
            source = self._plain_source
            output = Output(source.image, source.scale, source.zero_point)
            numbers = from_real(output, numbers, run.pixels)
        T.buffer_store(self.plain, numbers, place)

    def _to_image(self, numbers: Expr, lanes: Lanes) -> Expr:
        if self._is_copy:
            return numbers
        kernel = self.kernel
        return from_real(Output(kernel.image, kernel.scale, kernel.zero_point), numbers, lanes)

    def _from_image(self, stored: Expr, lanes: Lanes) -> Expr:
        if self._is_copy:
            return stored
        kernel = self.kernel
        return to_real(Source(kernel.image, kernel.scale, kernel.zero_point), stored, lanes)

    def _offset(self, run: _Run, pixel: int, channel: Expr) -> Expr:
        """Where a number lies in the image, seen as one line."""
        _, rows, columns, channels = self.kernel.image.shape
        top, left, _, _ = self.kernel.image.halo
        line = run.batch * rows + (run.y + top)
        return (line * columns + (run.x + (pixel + left))) * channels + channel

    @property
    def _channels(self) -> int:
        """Channels of the plain tensor; the image may be padded to more."""
        return self.kernel.plain_shape[1]

    @property
    def _is_copy(self) -> bool:
        """Both sides store numbers alike, so that none changes on the way."""
        return self.kernel.plain_dtype == self.kernel.image.dtype

    @property
    def _working(self) -> str:
        return self.kernel.image.storage_dtype if self._is_copy else "float32"

    @property
    def _zero(self) -> float:
        """The real number zero, as it is handled between the two sides."""
        is_integer = "int" in self.kernel.image.dtype
        return self.kernel.zero_point if self._is_copy and is_integer else 0.0

    @property
    def _plain_source(self) -> Source:
        """The plain tensor's numbers; only their type, scale and zero point matter here."""
        kernel = self.kernel
        return Source(Image(1, 1, 1, 1, kernel.plain_dtype), kernel.scale, kernel.zero_point)


@dataclass(frozen=True, slots=True)
class _Run:
    """A run of neighbouring pixels of one row."""

    batch: Expr
    y: Expr
    x: Expr
    pixels: Lanes


def transposed(rows: list[Expr], width: int) -> list[Expr]:
    """The columns of rows of `width` numbers.

    A square whose side is a power of two takes log2(side) rounds, each of which interleaves the
    rows of the upper half with those of the lower half. Other shapes are gathered one by one.
    """
    count = len(rows)
    if width != count:
        order = [[row * width + column for row in range(count)] for column in range(width)]
        return [bind(_shuffle(rows, indices)) for indices in order]
    half = count // 2
    low = [k // 2 + (k % 2) * count for k in range(count)]
    for _ in range(int(math.log2(count))):
        pairs = [(rows[k], rows[k + half]) for k in range(half)]
        rows = [
            bind(_shuffle(list(pair), [index + start for index in low]))
            for pair in pairs
            for start in (0, half)
        ]
    return rows


def _shuffle(vectors: list[Expr], order: list[int]) -> Expr:
    """Pick numbers from vectors seen as one after another."""
    if len(order) == 1:
        return vectors[order[0]] if _is_scalar(vectors[0]) else tirx.Shuffle(vectors, order)
    return tirx.Shuffle(vectors, order)


def _is_scalar(value: Expr) -> bool:
    return "x" not in str(value.ty.dtype)


def _plain_storage(kernel: TransposeKernel) -> str:
    return "uint16" if kernel.plain_dtype == "bfloat16" else kernel.plain_dtype
