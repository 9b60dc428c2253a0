"""Attention without its matrix of weights in memory, on tensor cores in fp16 or bf16.

    O = softmax(scale · Q Kᵀ + mask) V

A warp keeps 16 queries in registers and walks the keys in blocks; the softmax runs along. The sums
of Q Kᵀ lie in registers just as the left operand of the next product is read. Source: Dao,
"FlashAttention-2", 2023, algorithm 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.attention import QUERIES, Attention
from gcompile.backends.cuda.kernels.attention_softmax import (
    NEVER,
    masked,
    number,
    reduced,
    softmax,
)
from gcompile.backends.cuda.kernels.block_tile import CHUNK_BYTES
from gcompile.backends.cuda.kernels.swizzle import shared_address
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS, Instruction
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    BLOCK_Z,
    LANE,
    THREAD,
    WARP,
    Barrier,
    Buffer,
    Commit,
    CopyAsync,
    For,
    If,
    Let,
    LoadMatrix,
    Multiply,
    Program,
    Registers,
    Set,
    Statement,
    StoreGlobal,
    Wait,
)
from gcompile.backends.cuda.program.scalar import (
    DType,
    Scalar,
    apply,
    both,
    constant,
    less,
    register,
    select,
    variable,
)


@dataclass(frozen=True)
class AttentionProgram:
    """The kernel of one attention."""

    what: Attention

    @property
    def _instruction(self) -> Instruction:
        return INSTRUCTIONS[self.what.element]

    @property
    def _panel_bytes(self) -> int:
        """Vectors are cut into panels of this width, which are swizzled each for itself."""
        return 128 if self.what.depth * 2 % 128 == 0 else 64

    @property
    def _panels(self) -> int:
        return math.ceil(self.what.depth * 2 / self._panel_bytes)

    @property
    def _steps(self) -> int:
        """Instructions along the depth of Q Kᵀ, zeros included."""
        return self._panels * self._panel_bytes // self._instruction.depth_bytes

    @property
    def _columns(self) -> int:
        """Instructions along the elements of a vector of V."""
        return self.padded_depth // self._instruction.columns

    @property
    def padded_depth(self) -> int:
        """Elements of a vector that are multiplied, zeros included."""
        return self._panels * self._panel_bytes // 2

    @property
    def _query_bytes(self) -> int:
        return self.what.block_queries * self._panels * self._panel_bytes

    @property
    def _key_bytes(self) -> int:
        return self.what.block_keys * self._panels * self._panel_bytes

    def program(self) -> Program:
        """Write it."""
        what = self.what
        q, k, v, o = what.buffers
        mask = () if what.mask_buffer is None else (what.mask_buffer,)
        block = what.block_queries
        blocks = math.ceil(what.keys / what.block_keys)
        first_key = variable("block") * what.block_keys
        sums = self._columns * 4
        return Program(
            what.name,
            (q, k, v, *mask, o),
            (math.ceil(what.queries / block), 1, what.batch * what.heads),
            what.threads,
            self._query_bytes + 4 * self._key_bytes,
            (
                Let("first_query", BLOCK_X * block),
                Let("sequence", BLOCK_Z // what.heads),
                Let("head", BLOCK_Z % what.heads),
                Let("key_head", variable("head") // (what.heads // what.key_heads)),
                Let("blocks", self._blocks_seen(blocks)),
                Registers("out", "float32", sums, zero=True),
                Registers("largest", "float32", 2),
                Registers("total", "float32", 2, zero=True),
                *(Set(register("largest", i, "float32"), number(NEVER)) for i in (0, 1)),
                *self._copy(q, 0, variable("head"), variable("first_query"), constant(0)),
                *self._ask(k, v, constant(0)),
                Commit(),
                For(
                    "block",
                    variable("blocks") if what.causal else blocks,
                    (
                        If(
                            less(variable("block") + 1, variable("blocks")),
                            tuple(self._ask(k, v, variable("block") + 1)),
                        ),
                        Commit(),
                        Wait(1),
                        Barrier(),
                        Let("stage", variable("block") % 2 * (2 * self._key_bytes)),
                        *self._weights(),
                        *masked(what, first_key),
                        *softmax(what, self._columns),
                        *self._weighted(),
                        Barrier(),
                    ),
                ),
                *self._write(o),
            ),
        )

    def _blocks_seen(self, blocks: int) -> Scalar:
        """Blocks of keys that any query of the block sees."""
        what = self.what
        if not what.causal:
            return constant(blocks)
        last = variable("first_query") + (what.block_queries + what.keys - what.queries)
        seen = (last + (what.block_keys - 1)) // what.block_keys
        return apply("min", seen, blocks)

    def _start(self, tensor: int, head: Scalar) -> Scalar:
        rows = self.what.rows[tensor]
        start = variable("sequence") * rows.batch_pitch + head * rows.head_pitch
        return start + rows.offset

    def _copy(
        self, buffer: Buffer, tensor: int, head: Scalar, first: Scalar, at: Scalar
    ) -> list[Statement]:
        """Bring vectors into shared memory, zeros for those that do not exist."""
        what = self.what
        is_query = tensor == 0
        count = what.block_queries if is_query else what.block_keys
        exist = what.queries if is_query else what.keys
        chunks = self._panels * self._panel_bytes // CHUNK_BYTES
        unit, threads = variable("unit"), what.threads
        row, chunk = unit // chunks, unit % chunks
        in_panel = self._panel_bytes // CHUNK_BYTES
        panel = chunk // in_panel * (count * self._panel_bytes)
        address = at + panel + shared_address(row, chunk % in_panel, self._panel_bytes)
        vector = first + row
        index = self._start(tensor, head) + vector * what.rows[tensor].pitch + chunk * 8
        condition = both(
            less(vector, exist) if exist % count else None,
            less(chunk * 8, what.depth) if chunks * 8 != what.depth else None,
        )
        copy: Statement = CopyAsync(address, buffer, index, CHUNK_BYTES, condition)
        if count * chunks % threads:
            copy = If(less(unit, count * chunks), (copy,))
        body = (Let("unit", THREAD + variable("i") * threads), copy)
        return [For("i", math.ceil(count * chunks / threads), body, unrolled=True)]

    def _ask(self, k: Buffer, v: Buffer, block: Scalar) -> list[Statement]:
        at = block % 2 * (2 * self._key_bytes) + self._query_bytes
        first = block * self.what.block_keys
        return [
            *self._copy(k, 1, variable("key_head"), first, at),
            *self._copy(v, 2, variable("key_head"), first, at + self._key_bytes),
        ]

    def _fragment(self, row: Scalar, step: Scalar, chunk: Scalar, rows: int, at: Scalar) -> Scalar:
        """Address of chunk `2 · step + chunk` of a row among `rows` rows of panels."""
        in_panel = self._panel_bytes // self._instruction.depth_bytes
        panel = step // in_panel * (rows * self._panel_bytes)
        place = step % in_panel * 2 + chunk
        return at + panel + shared_address(row, place, self._panel_bytes)

    def _weights(self) -> list[Statement]:
        """S = Q Kᵀ: 16 queries by the keys of the block."""
        what = self.what
        step, j = variable("step"), variable("j")
        keys = what.block_keys // 8
        query = WARP * QUERIES + (LANE & 15)
        left = self._fragment(query, step, LANE >> 4, what.block_queries, constant(0))
        key = j * 16 + (LANE & 7) + ((LANE >> 4) << 3)
        at = variable("stage") + self._query_bytes
        right = self._fragment(key, step, (LANE >> 3) & 1, what.block_keys, at)
        products = tuple(
            Multiply(
                self._instruction,
                _four("s", j * 8 + 4 * half, "float32"),
                _four("left", constant(0), "uint32"),
                tuple(register("right", 2 * half + r, "uint32") for r in (0, 1)),
            )
            for half in (0, 1)
        )
        load = LoadMatrix(_four("right", constant(0), "uint32"), right)
        return [
            Registers("s", "float32", 4 * keys, zero=True),
            Registers("left", "uint32", 4),
            Registers("right", "uint32", 4),
            For(
                "step",
                self._steps,
                (
                    LoadMatrix(_four("left", constant(0), "uint32"), left),
                    For("j", keys // 2, (load, *products), unrolled=True),
                ),
                unrolled=True,
            ),
        ]

    def _weighted(self) -> list[Statement]:
        """O += P V: the weights are the left operand as they lie, V is transposed on its way."""
        what = self.what
        step, j = variable("step"), variable("j")
        pack = f"pack_{what.element}"
        left = tuple(
            Set(
                register("left", r, "uint32"),
                apply(
                    pack,
                    register("s", step * 8 + 2 * r, "float32"),
                    register("s", step * 8 + (2 * r + 1), "float32"),
                ),
            )
            for r in range(4)
        )
        key = step * 16 + (LANE & 15)
        at = variable("stage") + (self._query_bytes + self._key_bytes)
        right = self._fragment(key, j, LANE >> 4, what.block_keys, at)
        products = tuple(
            Multiply(
                self._instruction,
                _four("out", j * 8 + 4 * half, "float32"),
                _four("left", constant(0), "uint32"),
                tuple(register("right", 2 * half + r, "uint32") for r in (0, 1)),
            )
            for half in (0, 1)
        )
        load = LoadMatrix(_four("right", constant(0), "uint32"), right, transposed=True)
        columns = For("j", self._columns // 2, (load, *products), unrolled=True)
        return [For("step", what.block_keys // 16, (*left, columns), unrolled=True)]

    def _write(self, o: Buffer) -> list[Statement]:
        """Divide by the sums and store two elements at a time."""
        what = self.what
        j = variable("j")
        result: list[Statement] = [Registers("other", "float32", 1)]
        for half in (0, 1):
            total = register("total", half, "float32")
            query = variable("first_query") + WARP * QUERIES + (LANE >> 2) + 8 * half
            column = j * 8 + (LANE & 3) * 2
            divisor = select(apply("less", 0.0, total), total, 1.0)
            values = tuple(
                apply(
                    "fdiv",
                    register("out", j * 4 + (2 * half + i), "float32"),
                    divisor if what.zero_if_hidden else total,
                )
                for i in (0, 1)
            )
            index = self._start(3, variable("head")) + query * what.rows[3].pitch + column
            exists = both(
                less(query, what.queries) if what.queries % (what.block_queries) else None,
                less(column, what.depth) if self._columns * 8 != what.depth else None,
            )
            store: Statement = StoreGlobal(o, index, values)
            if exists is not None:
                store = If(exists, (store,))
            result += [
                *reduced("fadd", total, register("other", 0, "float32")),
                For("j", self._columns, (store,), unrolled=True),
            ]
        return result


def _four(name: str, first: Scalar, dtype: DType) -> tuple[Scalar, ...]:
    return tuple(register(name, first + r, dtype) for r in range(4))
