"""A product of a few rows with weights of four or eight bits, decoded in registers.

    y[m, n] = epilogue(Σ over blocks b: scale[b, n] · Σ over k in b: (q[n, k] − z[b, n]) · x[m, k])

Tensor cores multiply in fp16 or bf16, in which the differences q − z are exact. Weights are the
left operand (16 of them along n) and rows of x the right one (8 at a time), so that one row wastes
no bandwidth: the kernel reads each weight once, 16 bytes per lane.

The depth may be walked in any order, so it is walked as lanes read x: lane 4g + t holds elements
8t … 8t + 7 of every 32, as the columns 2t, 2t + 1, 2t + 8 and 2t + 9 of two instructions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.decode_stored import Decoding
from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.pack_stored import COLUMNS, RUN, unit_of
from gcompile.backends.cuda.kernels.stored_output import PITCH, added, shared
from gcompile.backends.cuda.program.instruction import ASYNC_ARCH, Instruction, instruction_for
from gcompile.backends.cuda.program.matrix_statements import Multiply
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    BLOCK_Y,
    LANE,
    WARP,
    Barrier,
    Buffer,
    For,
    If,
    Let,
    LoadGlobal,
    LoadWords,
    Program,
    Registers,
    Scope,
    Set,
    Statement,
    Storage,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    both,
    constant,
    less,
    register,
    variable,
)

MOST_ROWS = 64
"""Rows of x for which weights are decoded once; more rows are more blocks."""

_MOST_LOADS = 4
"""Loads of weights that each lane has under way, fewer where sums take the registers."""


@dataclass(frozen=True)
class StoredProduct:
    """What is multiplied.

    The program's arguments are `x`, `weights`, `scales`, the `points` if there are any, then the
    epilogue's, and `y`.

    Attributes:
        name: Of the program.
        element: Type of x: `f16` or `bf16`.
        bits: Of a weight: 4 or 8.
        m: Rows of x.
        n: Columns of the product.
        k: Depth.
        block: Elements of depth that share a scale, a multiple of 32 or all of them.
        epilogue: What follows.
        x_pitch: Elements from one row of x to the next, a multiple of 8.
        has_points: Weights have zero points of their own; otherwise they are signed.
        warps: Of a block; they share the depth.
        arch: The architecture whose instructions it may use.
    """

    name: str
    element: str
    bits: int
    m: int
    n: int
    k: int
    block: int
    epilogue: Epilogue
    x_pitch: int
    has_points: bool = False
    warps: int = 4
    arch: int = ASYNC_ARCH

    def __post_init__(self) -> None:
        if self.element not in ("f16", "bf16") or self.bits not in (4, 8):
            raise ValueError("Weights of 4 or 8 bits are multiplied in fp16 and bf16.")
        if self.x_pitch % 8 or self.k % 8:
            raise ValueError("Rows are multiples of eight elements long.")
        if self.block % RUN and self.block < self.k:
            raise ValueError("Scales belong to multiples of 32 elements.")

    @property
    def unit(self) -> int:
        """Elements of depth of 16 bytes per lane."""
        return unit_of(self.bits)

    @property
    def units(self) -> int:
        """Such units in the depth."""
        return math.ceil(self.k / self.unit)

    @property
    def blocks(self) -> int:
        """Scales of a column."""
        return math.ceil(self.k / self.block)

    @property
    def tiles(self) -> tuple[int, int]:
        """Instructions along the rows of a block, and blocks along the columns."""
        return math.ceil(min(self.m, MOST_ROWS) / 8), math.ceil(self.n / COLUMNS)

    @property
    def buffers(self) -> tuple[Buffer, ...]:
        """x, the packed weights, scales (blocks, n) and zero points (blocks, n)."""
        storage: Storage = "float16" if self.element == "f16" else "bfloat16"
        count = self.tiles[1] * self.units * 32 * 16
        points = (Buffer("points", "uint8", self.blocks * self.n),) if self.has_points else ()
        return (
            Buffer("x", storage, (self.m - 1) * self.x_pitch + self.k),
            Buffer("weights", "uint8", count),
            Buffer("scales", "float32", self.blocks * self.n),
            *points,
        )

    def program(self) -> Program:
        """The kernel: a block computes 16 columns, its warps share the depth."""
        read, written = self.epilogue.read, self.epilogue.written
        rounds = math.ceil(self.units / (self.warps * self._loads))
        sums = 4 * self.tiles[0]
        return Program(
            self.name,
            (*self.buffers, *read, written),
            (self.tiles[1], math.ceil(self.m / MOST_ROWS), 1),
            32 * self.warps,
            4 * self.warps * 8 * self.tiles[0] * PITCH,
            (
                Let("first_column", BLOCK_X * COLUMNS),
                Let("first_row", BLOCK_Y * MOST_ROWS),
                Registers("sums", "float32", sums, zero=True),
                For("round", rounds, tuple(self._round())),
                *shared(self.tiles[0]),
                Barrier(),
                *self._finish(),
            ),
        )

    @property
    def _loads(self) -> int:
        return max(1, min(_MOST_LOADS, 8 // self.tiles[0]))

    @property
    def _has_slack(self) -> bool:
        """Some blocks have rows that do not exist."""
        return self.m % (MOST_ROWS if self.m > MOST_ROWS else 8) > 0

    @property
    def instruction(self) -> Instruction:
        """What multiplies."""
        return instruction_for(self.element, self.arch)

    @property
    def _decoding(self) -> Decoding:
        return Decoding(self.element, self.bits, self.has_points)

    def _finish(self) -> list[Statement]:
        """Add the warps' sums in order, evaluate and store."""
        row, column = variable("row"), variable("column")
        exists = both(
            less(row, self.m) if self._has_slack else None,
            less(column, self.n) if self.n % COLUMNS else None,
        )
        return added(self.tiles[0], self.warps, exists, self.epilogue)

    def _unit_number(self) -> Scalar:
        return (variable("round") * self._loads + variable("turn")) * self.warps + WARP

    def _round(self) -> list[Statement]:
        """Load the weights of several units, then decode and multiply each."""
        turn = variable("turn")
        last = constant(self.units - 1)
        place = (BLOCK_X * self.units + apply("min", self._unit_number(), last)) * 32 + LANE
        words = tuple(register("words", turn * 4 + i, "uint32") for i in range(4))
        load = LoadWords(words, self.buffers[1], place * 16)
        return [
            Registers("words", "uint32", 4 * self._loads),
            For("turn", self._loads, (load,), unrolled=True),
            For(
                "turn",
                self._loads,
                (
                    Let("depth", self._unit_number() * self.unit),
                    *(s for run in range(self.unit // RUN) for s in self._run(run)),
                ),
                unrolled=True,
            ),
        ]

    def _run(self, run: int) -> list[Statement]:
        """Multiply 32 elements of depth and scale their sums."""
        rows = self.tiles[0]
        tile = variable("tile")
        depth = variable("depth") + run * RUN
        # Past the depth x is zero, so the clamped block may be any.
        block = apply("min", depth // self.block, self.blocks - 1)
        element = depth + (LANE & 3) * 8
        row = variable("first_row") + tile * 8 + (LANE >> 2)
        x = tuple(register("x_words", tile * 4 + i, "uint32") for i in range(4))
        exists = both(
            less(element, self.k) if self.k % (self.unit * self.warps * self._loads) else None,
            less(row, self.m) if self._has_slack else None,
        )
        load: Statement = LoadWords(x, self.buffers[0], row * self.x_pitch + element)
        if exists is not None:
            load = If(exists, (load,))
        body: list[Statement] = [
            Let("block", block),
            Registers("x_words", "uint32", 4 * rows, zero=True),
            Registers("scale", "float32", 2, zero=True),
            Registers("partial", "float32", 4 * rows, zero=True),
            Registers("left", "uint32", 4),
            For("tile", rows, (load,), unrolled=True),
            *self._parameters(),
        ]
        for step in (0, 1):
            body += self._decoding.words(run, step)
            product = Multiply(
                self.instruction,
                tuple(register("partial", tile * 4 + i, "float32") for i in range(4)),
                tuple(register("left", i, "uint32") for i in range(4)),
                tuple(register("x_words", tile * 4 + (2 * step + i), "uint32") for i in (0, 1)),
            )
            body.append(For("tile", rows, (product,), unrolled=True))
        i = variable("i")
        scaled = apply(
            "fma",
            register("partial", i, "float32"),
            register("scale", i // 2 % 2, "float32"),
            register("sums", i, "float32"),
        )
        body.append(
            For("i", 4 * rows, (Set(register("sums", i, "float32"), scaled),), unrolled=True)
        )
        return [Scope(tuple(body))]

    def _parameters(self) -> list[Statement]:
        """Load the scales and zero points of the lane's two columns."""
        result: list[Statement] = []
        if self.has_points:
            result.append(Registers("point", "int32", 2, zero=True))
        for half in (0, 1):
            column = variable("first_column") + (LANE >> 2) + 8 * half
            index = variable("block") * self.n + column
            loads: list[Statement] = [
                LoadGlobal((register("scale", half, "float32"),), self.buffers[2], index)
            ]
            if self.has_points:
                point = register("point", half, "int32")
                loads.append(LoadGlobal((point,), self.buffers[3], index))
            exists = less(column, self.n)
            result += [If(exists, tuple(loads))] if self.n % COLUMNS else loads
        return result
