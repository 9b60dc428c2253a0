"""The function of a chain: passes over rows, each of which calls every kernel once.

    before            layer 1 ▒▒▒  layer 2 ▒▒                    the leads
    pass after pass   layer 1 ███  layer 2 ███  layer 3 ███      then rows that stay move up
    the last pass     whatever rows are left

Every image between two layers is a window: rows that were kept, then new ones. What is called are
functions of their own, which are compiled side by side and shared by equal layers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import tirx
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.declare import declaring_call
from gcompile.backends.tvm.kernels.band import BandedKernel, ImageOperand, band_of, least_rows
from gcompile.backends.tvm.kernels.function import Argument, prim_func, scratch, view
from gcompile.backends.tvm.kernels.image_access import fill_value
from gcompile.backends.tvm.kernels.lanes import Lanes, for_each_vector
from gcompile.backends.tvm.kernels.spec import Image, Kernel
from gcompile.ir import Band, BandedLayer, Bands

_VECTOR_BYTES = 32
"""What is moved at once: registers of every target hold it, some in two parts."""


@dataclass(frozen=True)
class Callee:
    """A kernel of a few rows, as a function that can be called.

    Attributes:
        symbol: Its name.
        arguments: What it takes, the output last.
    """

    symbol: str
    arguments: tuple[Argument, ...]


@dataclass(frozen=True)
class Operand:
    """One argument of a layer.

    Attributes:
        place: Index of the layer that computes it, or of the input of the chain.
        image: How its rows are read; None where it is read whole.
        is_inner: The chain computes it.
    """

    place: int
    image: ImageOperand | None
    is_inner: bool


@dataclass(frozen=True)
class Link:
    """One layer: its kernel, and what that reads."""

    kernel: BandedKernel
    operands: tuple[Operand, ...]

    @property
    def image(self) -> Image:
        """What it writes."""
        return self.kernel.output.image

    @property
    def layer(self) -> BandedLayer:
        """The rows it reads of other layers."""
        reads = tuple(
            (operand.place, operand.image.window)
            for operand in self.operands
            if operand.is_inner and operand.image is not None
        )
        return BandedLayer(self.image.height, reads, least_rows(self.kernel))


@dataclass(frozen=True)
class RowPasses:
    """A chain as one function.

    Attributes:
        links: Its layers; the last one writes the output.
        bands: How many rows each computes when.
        inputs: What is read from outside.
        callee: Makes a kernel of a few rows a function.
    """

    links: tuple[Link, ...]
    bands: Bands
    inputs: tuple[Argument, ...]
    callee: Callable[[Kernel], Callee]

    def function(self, name: str) -> PrimFunc:
        """Write the function; its arguments are the inputs and the output."""
        output = Argument.of_image("output", self.links[-1].image)
        return prim_func(name, [*self.inputs, output], self._write)

    def _write(self, buffers: list[Buffer]) -> None:
        *inner, _ = zip(self.links, self.bands.layers, strict=True)
        windows = [
            scratch(band.capacity * row_size(link.image), link.image.storage_dtype)
            for link, band in inner
        ]
        output = self.links[-1].image
        steps = _Steps(self, buffers[:-1], [*windows, view(buffers[-1], (output.size,))])
        steps.declare()
        for (link, band), window in zip(inner, windows, strict=True):
            fill_rows(link.image, window, band.base - band.above, band.above)
        top, _, bottom, _ = output.halo
        fill_rows(output, steps.written[-1], 0, top)
        fill_rows(output, steps.written[-1], top + output.height, bottom)
        steps.write_leads()
        with T.serial(self.bands.passes - 1) as index:
            steps.write_pass(index)
        steps.write_last()


def row_size(image: Image) -> int:
    """Elements of one stored row."""
    return image.shape[2] * image.channels


def fill_rows(image: Image, flat: Buffer, first: int, count: int) -> None:
    """Write whole rows of padding, from stored row `first` on."""
    row = row_size(image)
    width = _VECTOR_BYTES // np.dtype(image.storage_dtype).itemsize
    value = fill_value(image)

    def write(offset: Expr, lanes: Lanes) -> None:
        filled = lanes.splat(value, image.storage_dtype)
        T.buffer_store(flat, filled, [lanes.index(first * row + offset)])

    for_each_vector(count * row, width, write)


def move_rows(image: Image, flat: Buffer, source: int, target: int, count: int) -> None:
    """Copy whole rows to rows before them, which they may overlap."""
    row = row_size(image)
    width = _VECTOR_BYTES // np.dtype(image.storage_dtype).itemsize

    def move(offset: Expr, lanes: Lanes) -> None:
        moved = flat[lanes.index(source * row + offset)]
        T.buffer_store(flat, moved, [lanes.index(target * row + offset)])

    for_each_vector(count * row, width, move)


@dataclass(frozen=True)
class _Steps:
    """The passes while they are being written.

    Attributes:
        read: What comes from outside.
        written: What each layer writes, as one line: windows, and the output.
    """

    passes: RowPasses
    read: Sequence[Buffer]
    written: Sequence[Buffer]

    @property
    def bands(self) -> tuple[Band, ...]:
        return self.passes.bands.layers

    def declare(self) -> None:
        """Declare everything that is called, and touch the ends of windows: never done.

        TVM makes a buffer no larger than the elements that it sees used.
        """
        bands = zip(self.passes.links, self.bands, strict=True)
        called = {
            self.passes.callee(band_of(link.kernel, rows)).symbol
            for link, band in bands
            for rows in {band.lead, band.rows, band.last} - {0}
        }
        with T.If(tirx.isnullptr(self.written[-1].data)), T.Then():
            for symbol in sorted(called):
                T.evaluate(declaring_call(symbol))
            for flat in self.written[:-1]:
                T.buffer_store(flat, tirx.const(0, flat.dtype), [int(flat.shape[0]) - 1])

    def write_leads(self) -> None:
        """Compute the rows that images are ahead of the last one."""
        for index, band in enumerate(self.bands):
            self._call(index, band.lead, [0] * len(self.bands), is_ahead=False)
        self._move([band.lead for band in self.bands])

    def write_pass(self, number: Expr) -> None:
        """Compute the rows of one pass."""
        first = [number * band.rows + band.lead for band in self.bands]
        for index, band in enumerate(self.bands):
            self._call(index, band.rows, first, is_ahead=True)
        self._move([band.rows for band in self.bands])

    def write_last(self) -> None:
        """Compute the rows that are left, and the padding below them."""
        first = [band.first_of_last for band in self.bands]
        for index, band in enumerate(self.bands):
            self._call(index, band.last, first, is_ahead=True)
            image = self.passes.links[index].image
            fill_rows(image, self.written[index], band.base + band.last, band.below)

    def _call(self, index: int, rows: int, first: Sequence[Expr], *, is_ahead: bool) -> None:
        """Call a layer for `rows` rows, where `first` says the first new row of every image.

        Args:
            index: The layer.
            rows: Rows it computes; none is no call.
            first: Rows of the image.
            is_ahead: Images are ahead of each other by their leads.
        """
        if not rows:
            return
        link = self.passes.links[index]
        callee = self.passes.callee(band_of(link.kernel, rows))
        places = [
            self._place(index, operand, first, is_ahead=is_ahead) for operand in link.operands
        ]
        last = index == len(self.bands) - 1
        start = link.image.halo[0] + first[index] if last else self.bands[index].base
        places.append((self.written[index], start * row_size(link.image)))
        arrays = [
            array_at(buffer, offset, argument)
            for (buffer, offset), argument in zip(places, callee.arguments, strict=True)
        ]
        T.evaluate(T.call_cpacked(callee.symbol, *arrays))

    def _place(
        self, index: int, operand: Operand, first: Sequence[Expr], *, is_ahead: bool
    ) -> tuple[Buffer, Expr]:
        """Where what a layer reads begins."""
        image = operand.image
        if image is None:
            return self.read[operand.place], 0
        size = row_size(image.image)
        if not operand.is_inner:
            row = first[index] * image.window.stride - image.window.pad
            return self.read[operand.place], (image.image.halo[0] + row) * size
        source, reader = self.bands[operand.place], self.bands[index]
        ahead = image.window.start(reader.lead) - source.lead if is_ahead else -image.window.pad
        return self.written[operand.place], (source.base + ahead) * size

    def _move(self, rows: Sequence[int]) -> None:
        """Move the rows that stay to where the next pass finds them."""
        *inner, _ = zip(self.passes.links, self.bands, self.written, rows, strict=True)
        for link, band, window, count in inner:
            if count:
                source, target = band.base + count - band.kept, band.base - band.kept
                move_rows(link.image, window, source, target, band.kept)


def array_at(buffer: Buffer, offset: Expr, argument: Argument) -> Expr:
    """A tensor of its own shape that begins somewhere in a buffer."""
    flat = view(buffer, (int(np.prod([int(size) for size in buffer.shape])),))
    shape = T.tvm_stack_make_shape(*argument.shape)
    dtype = tirx.const(0, argument.dtype)
    address = T.address_of(flat[offset])
    return T.tvm_stack_make_array(address, shape, 0, len(argument.shape), dtype, 0)
