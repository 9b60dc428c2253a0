"""Copies of boxes between images: concatenation, slices, and padding of every kind.

Each region reads a box of one source and writes it somewhere in the output. A step of 2 takes
every second element, -1 mirrors, and 0 repeats: reflected and replicated borders are regions too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.expression import write
from gcompile.backends.tvm.kernels.function import (
    Code,
    Tensors,
    kernel_code,
    loop,
    share,
    tasks,
)
from gcompile.backends.tvm.kernels.image_access import (
    Position,
    fill_halo,
    fill_value,
    to_real,
)
from gcompile.backends.tvm.kernels.lanes import Lanes, bind, for_each_vector
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Kernel, Source
from gcompile.errors import CompileError

_FLOAT_BITS = 32

Box = tuple[int, int, int, int]
"""One number for each of batch, row, column and channel."""


@dataclass(frozen=True, slots=True)
class Region:
    """A box of one source, and where it goes.

    Attributes:
        source: Number of the source.
        start: The first element read.
        place: The first element written.
        size: Elements along each axis.
        step: From one element read to the next.
    """

    source: int
    start: Box
    place: Box
    size: Box
    step: Box = (1, 1, 1, 1)


@dataclass(frozen=True, slots=True)
class CopyKernel(Kernel):
    """Copy regions; the expression sees each number read as `Accumulator`.

    Numbers are converted from each source's scale to the output's. Where nothing is converted,
    not a bit changes, whatever the type.

    Attributes:
        regions: Boxes that do not overlap in the output.
        fill: The real number that is written where no region is. None: regions leave no gap.
    """

    regions: tuple[Region, ...] = ()
    fill: float | None = None


def concatenation(images: tuple[Image, ...], axis: int) -> tuple[Region, ...]:
    """The regions that put images side by side along an axis (3: channels)."""
    regions, place = [], [0, 0, 0, 0]
    for index, image in enumerate(images):
        size = (image.batch, image.height, image.width, image.channels)
        to = (place[0], place[1], place[2], place[3])
        regions.append(Region(index, (0, 0, 0, 0), to, size))
        place[axis] += size[axis]
    return tuple(regions)


def emit(kernel: CopyKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: CopyKernel) -> Code:
    """Emit the copies. The function's arguments are the channel vectors, sources and output.

    Raises:
        CompileError: A region leaves its source or the output, or nothing fills a gap.
    """
    _check(kernel)

    def body(_: list[Buffer], tensors: Tensors) -> None:
        tasks(kernel.threads, _Copy(kernel, tensors).task)

    return kernel_code(kernel, [], body)


def _check(kernel: CopyKernel) -> None:
    for region in kernel.regions:
        read = _extents(kernel.sources[region.source].image)
        written = _extents(kernel.output.image)
        for axis in range(4):
            last = region.start[axis] + (region.size[axis] - 1) * region.step[axis]
            ends = (min(region.start[axis], last), max(region.start[axis], last))
            fits = ends[0] >= 0 and ends[1] < read[axis] and region.place[axis] >= 0
            if not fits or region.place[axis] + region.size[axis] > written[axis]:
                raise CompileError(f"{region} leaves its image: {read} to {written}.")
    if kernel.fill is None and gaps(kernel):
        raise CompileError("The regions do not cover the output; say what fills the rest.")


def gaps(kernel: CopyKernel) -> list[tuple[Box, Box]]:
    """Boxes (start, size) of the output that no region writes."""
    boxes: list[tuple[Box, Box]] = [((0, 0, 0, 0), _extents(kernel.output.image))]
    for region in kernel.regions:
        boxes = [part for box in boxes for part in _without(*box, region)]
    return boxes


def _without(start: Box, size: Box, region: Region) -> list[tuple[Box, Box]]:
    """The parts of a box outside a region: below and above it along each axis in turn."""
    first = list(start)
    end = [begin + extent for begin, extent in zip(start, size, strict=True)]
    low = [max(begin, place) for begin, place in zip(first, region.place, strict=True)]
    high = [
        min(stop, place + extent)
        for stop, place, extent in zip(end, region.place, region.size, strict=True)
    ]
    if any(bottom >= top for bottom, top in zip(low, high, strict=True)):
        return [(start, size)]
    parts = []
    for axis in range(4):
        for cut_start, cut_end in ((first[axis], low[axis]), (high[axis], end[axis])):
            if cut_start < cut_end:
                corner, far = first.copy(), end.copy()
                corner[axis], far[axis] = cut_start, cut_end
                extent = [stop - begin for begin, stop in zip(corner, far, strict=True)]
                parts.append((_box(corner), _box(extent)))
        first[axis], end[axis] = low[axis], high[axis]
    return parts


def _box(values: list[int]) -> Box:
    return values[0], values[1], values[2], values[3]


def _extents(image: Image) -> Box:
    return image.batch, image.height, image.width, image.channels


Pair = tuple[Expr, Expr]

Line = Callable[[Pair, Pair, Box], None]
"""Write a line: its batch and row within a box, its first column and the one after the last, and
where the box starts."""

Store = Callable[[Position, Expr, Lanes], None]
"""Write numbers that were just read."""


@dataclass(frozen=True, slots=True)
class _Copy:
    """One kernel while it is being emitted."""

    kernel: CopyKernel
    tensors: Tensors

    def task(self, task: Expr) -> None:
        kernel, image = self.kernel, self.kernel.output.image
        fill_halo(image, self.tensors.output, kernel.vector_bits, task, kernel.threads)
        for region in kernel.regions:
            self._for_each_line(region.place, region.size, task, self._reader(region))
        for start, size in gaps(kernel):
            self._for_each_line(start, size, task, self._filler(size))

    def _for_each_line(self, start: Box, size: Box, task: Expr, body: Line) -> None:
        """Share out a box by its rows, or by its columns where it has too few rows."""
        batch, height, width, _ = size
        threads = self.kernel.threads
        is_by_rows = batch * height >= threads

        def line(index: Expr) -> None:
            at = (T.Bind(index // height), T.Bind(index % height))
            body(at, share(width, task, threads) if not is_by_rows else (0, width), start)

        start_line, stop_line = (0, batch * height)
        if is_by_rows:
            start_line, stop_line = share(batch * height, task, threads)
        loop(start_line, stop_line, line)

    def _reader(self, region: Region) -> Line:
        source = self.kernel.sources[region.source]
        buffer = self.tensors.sources[region.source]
        top, left, _, _ = source.image.halo
        store, width = self._unchanged if self._is_unchanged(source) else self._converted(source)

        def line(at: Pair, columns: Pair, start: Box) -> None:
            def pixel(x: Expr) -> None:
                read = (
                    region.start[0] + at[0] * region.step[0],
                    region.start[1] + at[1] * region.step[1] + top,
                    region.start[2] + x * region.step[2] + left,
                )
                place = Position(start[0] + at[0], start[1] + at[1], start[2] + x, start[3])

                def vector(offset: Expr, lanes: Lanes) -> None:
                    channel = region.start[3] + offset * region.step[3]
                    store(place.moved(offset), buffer[(*read, lanes.index(channel))], lanes)

                for_each_vector(region.size[3], width if region.step[3] == 1 else 1, vector)

            loop(columns[0], columns[1], pixel)

        return line

    def _filler(self, size: Box) -> Line:
        image = self.kernel.output.image
        value = fill_value(replace(image, fill=self._stored_fill))
        store, width = self._unchanged

        def line(at: Pair, columns: Pair, start: Box) -> None:
            def pixel(x: Expr) -> None:
                place = Position(start[0] + at[0], start[1] + at[1], start[2] + x, start[3])
                for_each_vector(
                    size[3],
                    width,
                    lambda offset, lanes: store(
                        place.moved(offset), lanes.splat(value, image.storage_dtype), lanes
                    ),
                )

            loop(columns[0], columns[1], pixel)

        return line

    @property
    def _stored_fill(self) -> float:
        output, fill = self.kernel.output, self.kernel.fill or 0.0
        if output.image.dtype.startswith(("float", "bfloat")):
            return fill
        info = np.iinfo(output.image.dtype)
        return float(np.clip(np.rint(fill / output.scale) + output.zero_point, info.min, info.max))

    def _is_unchanged(self, source: Source) -> bool:
        output = self.kernel.output
        is_alike = source.image.dtype == output.image.dtype and (
            "float" in output.image.dtype
            or (source.scale, source.zero_point) == (output.scale, output.zero_point)
        )
        return is_alike and self.kernel.expression == Accumulator()

    @property
    def _unchanged(self) -> tuple[Store, int]:
        """How to store a number as it is, and how many at once."""
        image = self.kernel.output.image
        top, left, _, _ = image.halo

        def store(place: Position, stored: Expr, lanes: Lanes) -> None:
            indices = [place.batch, top + place.y, left + place.x, lanes.index(place.channel)]
            T.buffer_store(self.tensors.output, stored, indices)

        return store, self.kernel.vector_bits // (8 * np.dtype(image.storage_dtype).itemsize)

    def _converted(self, source: Source) -> tuple[Store, int]:
        def store(place: Position, stored: Expr, lanes: Lanes) -> None:
            real = bind(to_real(source, stored, lanes))
            write(self.kernel, self.tensors, place, lanes, real)

        return store, self.kernel.vector_bits // _FLOAT_BITS
