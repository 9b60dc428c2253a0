"""Bring the vectors of attention into shared memory, cut into panels.

Vectors that are stored as what is multiplied are copied while others are multiplied. Integers are
decoded in registers on the way: x - zero point is exact in either format.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.attention import Attention
from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES
from gcompile.backends.cuda.kernels.swizzle import shared_address
from gcompile.backends.cuda.program.program import (
    THREAD,
    Buffer,
    CopyAsync,
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

    def start(self, tensor: int, head: Scalar) -> Scalar:
        """Index of the first vector of a head."""
        rows = self.what.rows[tensor]
        start = variable("sequence") * rows.batch_pitch + head * rows.head_pitch
        return start + rows.offset

    def copy(
        self, buffer: Buffer, tensor: int, head: Scalar, first: Scalar, at: Scalar
    ) -> list[Statement]:
        """Bring vectors into shared memory, zeros for those that do not exist."""
        what = self.what
        is_query = tensor == 0
        count = what.block_queries if is_query else what.block_keys
        exist = what.queries if is_query else what.keys
        chunks = self.panels * self.panel_bytes // CHUNK_BYTES
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
        copy = self._unit(tensor, buffer, address, index, condition)
        if count * chunks % threads:
            copy = (If(less(unit, count * chunks), copy),)
        body = (Let("unit", THREAD + variable("i") * threads), *copy)
        return [For("i", math.ceil(count * chunks / threads), body, unrolled=True)]

    def ask(self, k: Buffer, v: Buffer, block: Scalar) -> list[Statement]:
        """Bring a block of keys and their values."""
        at = block % 2 * (2 * self.key_bytes) + self.query_bytes
        first = block * self.what.block_keys
        return [
            *self.copy(k, 1, variable("key_head"), first, at),
            *self.copy(v, 2, variable("key_head"), first, at + self.key_bytes),
        ]

    def fragment(self, row: Scalar, step: Scalar, chunk: Scalar, rows: int, at: Scalar) -> Scalar:
        """Address of chunk `2 · step + chunk` of a row among `rows` rows of panels."""
        in_panel = self.panel_bytes // STEP_BYTES
        panel = step // in_panel * (rows * self.panel_bytes)
        place = step % in_panel * 2 + chunk
        return at + panel + shared_address(row, place, self.panel_bytes)

    def _unit(
        self,
        tensor: int,
        buffer: Buffer,
        address: Scalar,
        index: Scalar,
        condition: Scalar | None,
    ) -> tuple[Statement, ...]:
        """Copy eight elements, or decode them."""
        stored = self.what.tensors[tensor]
        if not stored.is_integer:
            return (CopyAsync(address, buffer, index, CHUNK_BYTES, condition),)
        integers = tuple(register("integers", i, "int32") for i in range(_UNIT))
        words = tuple(register("words", i, "uint32") for i in range(_UNIT // 2))
        reals = [apply("int_to_float", number - stored.zero_point) for number in integers]
        decode: tuple[Statement, ...] = (
            LoadGlobal(integers, buffer, index),
            *(
                Set(word, apply(f"pack_{self.what.element}", reals[2 * i], reals[2 * i + 1]))
                for i, word in enumerate(words)
            ),
        )
        return (
            Registers("integers", "int32", _UNIT),
            Registers("words", "uint32", _UNIT // 2, zero=True),
            *(decode if condition is None else (If(condition, decode),)),
            StoreShared(address, words),
        )
