"""Bring the vectors of attention into shared memory, cut into panels.

Vectors that are stored as what is multiplied are copied while others are multiplied, before sm_80
by way of registers. Integers are decoded in registers on the way: x - zero point is exact in
either format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.attention import ZERO_POINTS, Attention
from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES
from gcompile.backends.cuda.kernels.numbers import number
from gcompile.backends.cuda.kernels.swizzle import shared_address
from gcompile.backends.cuda.kernels.transfer import Transfer, Unit, fetch
from gcompile.backends.cuda.program.program import (
    THREAD,
    Buffer,
    For,
    If,
    Let,
    LoadGlobal,
    Registers,
    Set,
    Statement,
    StoreShared,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    both,
    less,
    register,
    variable,
)

_NAMES = ("q", "k", "v")

STEP_BYTES = 32
"""Depth of one instruction."""

_UNIT = 8
"""Elements of a unit of 16 bytes."""


@dataclass(frozen=True)
class AttentionCopies:
    """Where vectors lie in shared memory, and how they get there."""

    what: Attention

    @property
    def panel_bytes(self) -> int:
        """Vectors are cut into panels of this width, which are swizzled each for itself."""
        return 128 if self.what.depth * 2 % 128 == 0 else 64

    @property
    def panels(self) -> int:
        """Panels of one vector."""
        return math.ceil(self.what.depth * 2 / self.panel_bytes)

    @property
    def padded_depth(self) -> int:
        """Elements of a vector that are multiplied, zeros included."""
        return self.panels * self.panel_bytes // 2

    @property
    def query_bytes(self) -> int:
        """Shared memory of the queries."""
        return self.what.block_queries * self.panels * self.panel_bytes

    @property
    def key_bytes(self) -> int:
        """Shared memory of one block of keys, or of values."""
        return self.what.block_keys * self.panels * self.panel_bytes

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block: queries, and two blocks of keys and values."""
        return self.query_bytes + 4 * self.key_bytes

    def start(self, tensor: int, head: Scalar) -> Scalar:
        """Index of the first vector of a head."""
        rows = self.what.rows[tensor]
        start = variable("sequence") * rows.batch_pitch + head * rows.head_pitch
        return start + rows.offset

    def words(self) -> list[Statement]:
        """Declare the registers that vectors pass through, for q, k and v."""
        return [
            Registers(f"{name}_words", "uint32", self._passes(tensor) * 4)
            for tensor, name in enumerate(_NAMES)
            if not self.what.tensors[tensor].is_integer
        ]

    def copy(
        self,
        transfer: Transfer,
        buffer: Buffer,
        tensor: int,
        head: Scalar,
        first: Scalar,
        at: Scalar,
    ) -> list[Statement]:
        """Bring vectors into shared memory, zeros for those that do not exist."""
        what = self.what
        count, chunks = self._count(tensor), self._chunks
        exist = what.queries if tensor == 0 else what.keys
        unit, threads = variable("unit"), what.threads
        row, chunk = unit // chunks, unit % chunks
        in_panel = self.panel_bytes // CHUNK_BYTES
        panel = chunk // in_panel * (count * self.panel_bytes)
        address = at + panel + shared_address(row, chunk % in_panel, self.panel_bytes)
        vector = first + row
        index = self.start(tensor, head) + vector * what.rows[tensor].pitch + chunk * 8
        condition = both(
            less(vector, exist) if exist % count else None,
            less(chunk * 8, what.depth) if chunks * 8 != what.depth else None,
        )
        unit_of = Unit(_NAMES[tensor], address, buffer, index, CHUNK_BYTES, condition)
        copy = self._unit(transfer, tensor, unit_of)
        if not copy:
            return []
        if count * chunks % threads:
            copy = (If(less(unit, count * chunks), copy),)
        body = (Let("unit", THREAD + variable("i") * threads), *copy)
        return [For("i", self._passes(tensor), body, unrolled=True)]

    def bring(self, transfer: Transfer, k: Buffer, v: Buffer, block: Scalar) -> list[Statement]:
        """Bring a block of keys and their values."""
        at = block % 2 * (2 * self.key_bytes) + self.query_bytes
        first = block * self.what.block_keys
        return [
            *self.copy(transfer, k, 1, variable("key_head"), first, at),
            *self.copy(transfer, v, 2, variable("key_head"), first, at + self.key_bytes),
        ]

    def fragment(self, row: Scalar, step: Scalar, chunk: Scalar, rows: int, at: Scalar) -> Scalar:
        """Address of chunk `2 · step + chunk` of a row among `rows` rows of panels."""
        in_panel = self.panel_bytes // STEP_BYTES
        panel = step // in_panel * (rows * self.panel_bytes)
        place = step % in_panel * 2 + chunk
        return at + panel + shared_address(row, place, self.panel_bytes)

    @property
    def _chunks(self) -> int:
        """Chunks of a vector."""
        return self.panels * self.panel_bytes // CHUNK_BYTES

    def _count(self, tensor: int) -> int:
        """Vectors that are brought at once."""
        return self.what.block_queries if tensor == 0 else self.what.block_keys

    def _passes(self, tensor: int) -> int:
        """Chunks that one thread brings."""
        return math.ceil(self._count(tensor) * self._chunks / self.what.threads)

    def _unit(self, transfer: Transfer, tensor: int, unit: Unit) -> tuple[Statement, ...]:
        """Bring eight elements; integers are decoded in one go, when they are put."""
        stored = self.what.tensors[tensor]
        if not stored.is_integer:
            return transfer(unit)
        if transfer is fetch:
            return ()
        integers = tuple(register("integers", i, "int32") for i in range(_UNIT))
        words = tuple(register("words", i, "uint32") for i in range(_UNIT // 2))
        zero_point = number(ZERO_POINTS + tensor)
        reals = [apply("fsub", apply("int_to_float", i), zero_point) for i in integers]
        decode: tuple[Statement, ...] = (
            LoadGlobal(integers, unit.buffer, unit.index),
            *(
                Set(word, apply(f"pack_{self.what.element}", reals[2 * i], reals[2 * i + 1]))
                for i, word in enumerate(words)
            ),
        )
        return (
            Registers("integers", "int32", _UNIT),
            Registers("words", "uint32", _UNIT // 2, zero=True),
            *(decode if unit.condition is None else (If(unit.condition, decode),)),
            StoreShared(unit.address, words),
        )
