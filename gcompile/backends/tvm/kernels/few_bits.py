"""Weights of four or eight bits with scales for blocks of depth: how they lie, how they are read.

    real = (stored - zero point) · scale

Four bits: a 32-bit lane holds eight consecutive elements of depth of one channel, lowest first.
Eight bits: one byte each, the channels of a vector side by side. Unsigned numbers are lowered to
signed ones with their zero points. Scales that float16 holds exactly are stored so.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import Argument, prefetch
from gcompile.backends.tvm.kernels.lanes import Lanes
from gcompile.errors import CompileError

EIGHT = 8
"""Elements of depth that are read at once."""

_WIDEST = 512


@dataclass(frozen=True, slots=True)
class FewBits:
    """How a matrix of (depth, channels) is stored.

    Attributes:
        bits: 4 or 8.
        block: Elements of depth that share a scale, a multiple of eight.
        scale_dtype: `float32` or `float16`.
        has_zero_points: Some zero point is not zero.
    """

    bits: int
    block: int
    scale_dtype: str = "float32"
    has_zero_points: bool = False

    def __post_init__(self) -> None:
        if self.bits not in (4, 8) or self.block % EIGHT:
            raise CompileError(
                f"Weights of {self.bits} bits in blocks of {self.block} have no kernel: use 4 or "
                f"8 bits and blocks of a multiple of {EIGHT}."
            )

    def arguments(self, depth: int, channels: int, lanes: int) -> list[Argument]:
        """The tensors of a matrix: numbers, scales, and zero points where there are any."""
        vectors, eights = -(-channels // lanes), -(-depth // EIGHT)
        numbers = (vectors, eights, lanes) if self.bits == 4 else (vectors, eights * EIGHT, lanes)
        blocks = (vectors, -(-eights * EIGHT // self.block), lanes)
        found = [
            Argument("weights", numbers, "int32" if self.bits == 4 else "int8"),
            Argument("scales", blocks, self.scale_dtype),
        ]
        return found + [Argument("zero_points", blocks, "int8")] * self.has_zero_points


@dataclass(frozen=True)
class Matrix:
    """A constant matrix as a model has it.

    Attributes:
        numbers: (channels, depth) as int8, signed.
        scales: (channels, blocks) as float32.
        zero_points: (channels, blocks) as int8.
        bits: 4 or 8.
        block: Elements of depth that share a scale.
    """

    numbers: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]
    zero_points: npt.NDArray[np.int8]
    bits: int
    block: int

    @property
    def stored(self) -> FewBits:
        """The smallest form that holds it."""
        with np.errstate(over="ignore"):
            halves = self.scales.astype(np.float16).astype(np.float32)
        scale_dtype = "float16" if np.array_equal(halves, self.scales) else "float32"
        return FewBits(self.bits, self.block, scale_dtype, bool(self.zero_points.any()))

    def packed(self, lanes: int) -> list[npt.NDArray[np.generic]]:
        """The tensors that `FewBits.arguments` describes; channels that only pad are zero."""
        channels, depth = self.numbers.shape
        padding = (-channels % lanes, -depth % EIGHT)
        numbers = _vectors(np.pad(self.numbers, [(0, p) for p in padding]), lanes)
        if self.bits == 4:
            numbers = _words(numbers)
        blocks = ((0, padding[0]), (0, 0))
        scales = np.pad(self.scales, blocks).astype(self.stored.scale_dtype)
        found = [numbers, _vectors(scales, lanes)]
        if self.stored.has_zero_points:
            found.append(_vectors(np.pad(self.zero_points, blocks), lanes))
        return found


@dataclass(frozen=True, slots=True)
class Reader:
    """Emits reads of a stored matrix, a vector of channels at a time.

    Attributes:
        buffers: Those that `FewBits.arguments` describes.
        lanes: Channels of a vector.
        table: The numbers that four bits stand for, where a register can be indexed by lanes.
    """

    stored: FewBits
    buffers: list[Buffer]
    lanes: Lanes
    table: Expr | None = None

    @classmethod
    def of(cls, stored: FewBits, buffers: list[Buffer], lanes: Lanes) -> Reader:
        """Make what reading needs. Emits bindings."""
        if stored.bits == 8 or lanes.count * 32 < _WIDEST:
            return cls(stored, buffers, lanes)
        codes = T.ramp(T.int32(0), 1, lanes.count)
        return cls(stored, buffers, lanes, T.Bind(_sign_extended(codes, 0, lanes)))

    def eight(self, vector: Expr, index: Expr) -> list[Expr]:
        """Eight elements of depth from 8 · `index` on, as float32. Emits bindings."""
        if self.stored.bits == 8:
            return [self._byte(vector, index * EIGHT + offset) for offset in range(EIGHT)]
        word = T.Bind(self.buffers[0][vector, index, self.lanes.index(0)])
        return [self._nibble(word, offset) for offset in range(EIGHT)]

    def ask(self, vector: Expr, index: Expr) -> None:
        """Ask for the memory of eight elements of depth that will be read."""
        if self.stored.bits == 4:
            prefetch(self.buffers[0], (vector, index, 0))
            return
        for line in range(0, EIGHT * self.lanes.count, 64):
            prefetch(self.buffers[0], (vector, index * EIGHT + line // self.lanes.count, 0))

    def scale(self, vector: Expr, block: Expr) -> Expr:
        """The scales of a block of depth, as float32."""
        stored = self.buffers[1][vector, block, self.lanes.index(0)]
        if self.stored.scale_dtype == "float32":
            return stored
        # Shifted by the difference of mantissa bits, the number is 2^(15 - 127) times as large,
        # subnormal ones included. Processors without float16 have no instruction for it.
        bits = self.lanes.cast("int32", self.lanes.reinterpret("uint16", stored))
        number = self.lanes.reinterpret("float32", bits << self.lanes.splat(13, "int32"))
        return number * self.lanes.splat(2.0**112)

    def zero_point(self, vector: Expr, block: Expr) -> Expr:
        """The zero points of a block of depth, as float32."""
        return self.lanes.cast("float32", self.buffers[2][vector, block, self.lanes.index(0)])

    def _byte(self, vector: Expr, element: Expr) -> Expr:
        stored = self.buffers[0][vector, element, self.lanes.index(0)]
        return T.Bind(self.lanes.cast("float32", self.lanes.cast("int32", stored)))

    def _nibble(self, word: Expr, offset: int) -> Expr:
        if self.table is None:
            return T.Bind(_sign_extended(word, offset, self.lanes))
        index = word if offset == 0 else word >> self.lanes.splat(4 * offset, "int32")
        return T.Bind(
            T.call_llvm_pure_intrin(
                self.lanes.type("float32"), "llvm.x86.avx512.permvar.sf.512", self.table, index
            )
        )


def _sign_extended(word: Expr, offset: int, lanes: Lanes) -> Expr:
    """Four bits of each lane as a float32."""
    raised = word << lanes.splat(28 - 4 * offset, "int32")
    return lanes.cast("float32", raised >> lanes.splat(28, "int32"))


def _vectors(rows: npt.NDArray[np.generic], lanes: int) -> npt.NDArray[np.generic]:
    """(channels, ...) as (vectors, ..., lanes)."""
    grouped = rows.reshape(-1, lanes, rows.shape[1])
    return np.ascontiguousarray(grouped.transpose(0, 2, 1))


def _words(numbers: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Eight elements of depth in the lanes of one word."""
    vectors, depth, lanes = numbers.shape
    nibbles = (numbers.astype(np.int32) & 15).astype(np.uint32)
    words = np.zeros((vectors, depth // EIGHT, lanes), np.uint32)
    for offset in range(EIGHT):
        words |= nibbles[:, offset::EIGHT] << np.uint32(4 * offset)
    return words.view(np.int32)
