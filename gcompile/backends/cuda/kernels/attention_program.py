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
from gcompile.backends.cuda.kernels.attention_copies import AttentionCopies
from gcompile.backends.cuda.kernels.attention_output import written
from gcompile.backends.cuda.kernels.attention_softmax import (
    NEVER,
    masked,
    real,
    softmax,
)
from gcompile.backends.cuda.kernels.numbers import load_numbers, numbers_buffer
from gcompile.backends.cuda.kernels.transfer import ask, fetch, put
from gcompile.backends.cuda.program.matrix_statements import LoadMatrix, Multiply
from gcompile.backends.cuda.program.operations import DType
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    BLOCK_Z,
    LANE,
    WARP,
    Barrier,
    Commit,
    For,
    If,
    Let,
    Program,
    Registers,
    Set,
    Statement,
    Wait,
)
from gcompile.backends.cuda.program.scalar import Scalar, apply, constant, less, register, variable


@dataclass(frozen=True)
class AttentionProgram:
    """The kernel of one attention."""

    what: Attention

    @property
    def copies(self) -> AttentionCopies:
        """How vectors come into shared memory."""
        return AttentionCopies(self.what)

    @property
    def _steps(self) -> int:
        """Instructions along the depth of Q Kᵀ, zeros included."""
        return self.copies.panels * self.copies.panel_bytes // self.what.instruction.depth_bytes

    @property
    def _columns(self) -> int:
        """Instructions along the elements of a vector of V."""
        return self.copies.padded_depth // self.what.instruction.columns

    def program(self) -> Program:
        """Write it."""
        what, copies = self.what, self.copies
        q, k, v, o = what.buffers
        mask = () if what.mask_buffer is None else (what.mask_buffer,)
        count = len(what.numbers) if what.has_integers else 0
        numbers = (numbers_buffer(count),) if count else ()
        block = what.block_queries
        blocks = math.ceil(what.keys / what.block_keys)
        sums = self._columns * 4
        return Program(
            what.name,
            (q, k, v, *mask, *numbers, o),
            (math.ceil(what.queries / block), 1, what.batch * what.heads),
            what.threads,
            copies.shared_bytes,
            (
                *load_numbers(count),
                Let("first_query", BLOCK_X * block),
                Let("sequence", BLOCK_Z // what.heads),
                Let("head", BLOCK_Z % what.heads),
                Let("key_head", variable("head") // (what.heads // what.key_heads)),
                Let("blocks", self._blocks_seen(blocks)),
                Registers("out", "float32", sums, zero=True),
                Registers("largest", "float32", 2),
                Registers("total", "float32", 2, zero=True),
                *(Set(register("largest", i, "float32"), real(NEVER)) for i in (0, 1)),
                *(self._through_registers(blocks) if what.by_registers else self._copied(blocks)),
                *written(what, o, copies.start(3, variable("head")), self._columns),
            ),
        )

    def _copied(self, blocks: int) -> list[Statement]:
        """Walk the keys; those of the next block are copied while these are multiplied."""
        copies, (q, k, v, _) = self.copies, self.what.buffers
        following = variable("block") + 1
        return [
            *copies.copy(ask, q, 0, variable("head"), variable("first_query"), constant(0)),
            *copies.bring(ask, k, v, constant(0)),
            Commit(),
            self._for_blocks(
                blocks,
                (
                    self._if_seen(following, copies.bring(ask, k, v, following)),
                    Commit(),
                    Wait(1),
                    Barrier(),
                    *self._weighed(),
                    *self._weighted(),
                    Barrier(),
                ),
            ),
        ]

    def _through_registers(self, blocks: int) -> list[Statement]:
        """The same before sm_80: the next block is in registers until the weights are known."""
        copies, (q, k, v, _) = self.copies, self.what.buffers
        following, first = variable("block") + 1, constant(0)
        query = variable("head"), variable("first_query"), first
        return [
            *copies.words(),
            *copies.copy(fetch, q, 0, *query),
            *copies.bring(fetch, k, v, first),
            *copies.copy(put, q, 0, *query),
            *copies.bring(put, k, v, first),
            self._for_blocks(
                blocks,
                (
                    self._if_seen(following, copies.bring(fetch, k, v, following)),
                    Barrier(),
                    *self._weighed(),
                    self._if_seen(following, copies.bring(put, k, v, following)),
                    *self._weighted(),
                ),
            ),
        ]

    def _for_blocks(self, blocks: int, body: tuple[Statement, ...]) -> Statement:
        return For("block", variable("blocks") if self.what.causal else blocks, body)

    def _if_seen(self, block: Scalar, body: list[Statement]) -> Statement:
        return If(less(block, variable("blocks")), tuple(body))

    def _weighed(self) -> list[Statement]:
        """The weights of the block's keys, as exponentials."""
        what = self.what
        return [
            Let("stage", variable("block") % 2 * (2 * self.copies.key_bytes)),
            *self._weights(),
            *masked(what, variable("block") * what.block_keys),
            *softmax(what, self._columns),
        ]

    def _blocks_seen(self, blocks: int) -> Scalar:
        """Blocks of keys that any query of the block sees."""
        what = self.what
        if not what.causal:
            return constant(blocks)
        last = variable("first_query") + (what.block_queries + what.keys - what.queries)
        seen = (last + (what.block_keys - 1)) // what.block_keys
        return apply("min", seen, blocks)

    def _weights(self) -> list[Statement]:
        """S = Q Kᵀ: 16 queries by the keys of the block."""
        what = self.what
        step, j = variable("step"), variable("j")
        keys = what.block_keys // 8
        query = WARP * QUERIES + (LANE & 15)
        left = self.copies.fragment(query, step, LANE >> 4, what.block_queries, constant(0))
        key = j * 16 + (LANE & 7) + ((LANE >> 4) << 3)
        at = variable("stage") + self.copies.query_bytes
        right = self.copies.fragment(key, step, (LANE >> 3) & 1, what.block_keys, at)
        products = tuple(
            Multiply(
                self.what.instruction,
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
        at = variable("stage") + (self.copies.query_bytes + self.copies.key_bytes)
        right = self.copies.fragment(key, j, LANE >> 4, what.block_keys, at)
        products = tuple(
            Multiply(
                self.what.instruction,
                _four("out", j * 8 + 4 * half, "float32"),
                _four("left", constant(0), "uint32"),
                tuple(register("right", 2 * half + r, "uint32") for r in (0, 1)),
            )
            for half in (0, 1)
        )
        load = LoadMatrix(_four("right", constant(0), "uint32"), right, transposed=True)
        columns = For("j", self._columns // 2, (load, *products), unrolled=True)
        return [For("step", what.block_keys // 16, (*left, columns), unrolled=True)]


def _four(name: str, first: Scalar, dtype: DType) -> tuple[Scalar, ...]:
    return tuple(register(name, first + r, dtype) for r in range(4))
