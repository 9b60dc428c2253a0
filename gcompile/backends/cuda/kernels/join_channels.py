"""Images side by side along their channels, each converted as it is copied.

    y[p, f_k + c] = epilogue_k(x_k[p, c])      f_k: how many channels the images before x_k have

Channels are last. A thread has a few neighbouring channels of one pixel, all of the same image.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.epilogue import Epilogue, Place, pieces
from gcompile.backends.cuda.program.operations import DType
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    STORAGE_BYTES,
    THREAD,
    Buffer,
    If,
    Let,
    LoadGlobal,
    Program,
    Registers,
    Statement,
    Storage,
)
from gcompile.backends.cuda.program.scalar import Scalar, apply, less, register, variable

_THREADS = 128
_WIDEST = 8


@dataclass(frozen=True)
class JoinChannels:
    """What is put side by side.

    The program's arguments are `source0`, `source1`, …, then what the last epilogue reads, and
    `y`, whose image says how many pixels there are.

    Attributes:
        name: Of the program.
        storages: How each image is stored.
        channels: How many each image has.
        epilogues: Over the numbers of each image: int32 of integers, else float32. They read and
            write the same, and no images besides.
    """

    name: str
    storages: tuple[Storage, ...]
    channels: tuple[int, ...]
    epilogues: tuple[Epilogue, ...]

    def __post_init__(self) -> None:
        if sum(self.channels) != self.epilogues[-1].output.image.channels:
            raise ValueError("The output has the channels of all images together.")
        if any(epilogue.sources for epilogue in self.epilogues):
            raise ValueError("What follows reads no image.")

    @property
    def pixels(self) -> int:
        """Of each image."""
        image = self.epilogues[-1].output.image
        return image.size // image.channels

    @property
    def width(self) -> int:
        """Channels of one thread."""
        size = max(2, *(STORAGE_BYTES[storage] for storage in self.storages))
        return math.gcd(*self.channels, _WIDEST, 16 // size)

    @property
    def firsts(self) -> tuple[int, ...]:
        """The first channel of each image in the output."""
        return tuple(itertools.accumulate(self.channels[:-1], initial=0))

    @property
    def images(self) -> tuple[Buffer, ...]:
        """What is read."""
        return tuple(
            Buffer(f"source{k}", storage, self.pixels * channels)
            for k, (storage, channels) in enumerate(zip(self.storages, self.channels, strict=True))
        )

    def program(self) -> Program:
        """The kernel."""
        last = self.epilogues[-1]
        vectors = sum(self.channels) // self.width
        count = self.pixels * vectors
        unit, channel = variable("unit"), variable("channel")
        body: list[Statement] = [
            Let("channel", unit % vectors * self.width),
            Let("pixel", unit // vectors),
        ]
        for k, (first, channels) in enumerate(zip(self.firsts, self.channels, strict=True)):
            is_here = apply("inside", channel - first, channels)
            body.append(If(is_here, tuple(self._copy(k))))
        return Program(
            self.name,
            (*self.images, *last.read, last.written),
            (math.ceil(count / _THREADS), 1, 1),
            _THREADS,
            0,
            (
                Let("unit", BLOCK_X * _THREADS + THREAD),
                If(less(unit, count), tuple(body)),
            ),
        )

    def _copy(self, k: int) -> list[Statement]:
        image, channel, pixel = self.images[k], variable("channel"), variable("pixel")
        dtype: DType = "int32" if "int" in self.storages[k] else "float32"
        index: Scalar = pixel * self.channels[k] + (channel - self.firsts[k])
        values = [register("value", i, dtype) for i in range(self.width)]
        return [
            Registers("value", dtype, self.width),
            *(
                LoadGlobal(tuple(values[start : start + count]), image, index + start)
                for start, count in pieces(self.width, image.element_bytes)
            ),
            *self.epilogues[k].statements(Place(pixel, channel), values),
        ]
