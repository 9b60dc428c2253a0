"""A product of a few rows with weights of four or eight bits, decoded in registers.

    y[m, n] = epilogue(Σ over blocks b: scale[b, n] · Σ over k in b: (q[n, k] − z[b, n]) · x[m, k])

Tensor cores multiply in fp16 or bf16, in which the differences q − z are exact. Weights are the
left operand (16 of them along n) and rows of x the right one (8 at a time), so that one row wastes
no bandwidth: the kernel reads each weight once, 16 bytes per lane.

Numbers are decoded without conversions: the bits of an integer q below the mantissa of 1024 (fp16)
or 128 (bf16) are that number plus q, from which 1024 + z is subtracted exactly.

The depth may be walked in any order, so it is walked as lanes read x: lane 4g + t holds elements
8t … 8t + 7 of every 32, as the columns 2t, 2t + 1, 2t + 8 and 2t + 9 of two instructions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernels.epilogue import Epilogue, Place
from gcompile.backends.cuda.kernels.pack_stored import COLUMNS, RUN, unit_of
from gcompile.backends.cuda.program.instruction import ASYNC_ARCH, Instruction, instruction_for
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    BLOCK_Y,
    LANE,
    THREAD,
    WARP,
    Barrier,
    Buffer,
    For,
    If,
    Let,
    LoadGlobal,
    LoadShared,
    LoadWords,
    Multiply,
    Program,
    Registers,
    Scope,
    Set,
    Statement,
    Storage,
    StoreShared,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    both,
    constant,
    less,
    register,
    variable,
    word,
)

MOST_ROWS = 64
"""Rows of x for which weights are decoded once; more rows are more blocks."""

_MOST_LOADS = 4
"""Loads of weights that each lane has under way, fewer where sums take the registers."""

_PITCH = 20
"""Sums of one row of x in shared memory: 16, and four more so that lanes use all banks."""

_MAGIC = {("f16", 4): 0x6400, ("f16", 8): 0x6400, ("bf16", 4): 0x4300}
"""The bits of 1024 or 128, below whose mantissa a number of so many bits fits."""

_FLOAT_MAGIC = 0x4B000000
"""The bits of 2^23: bf16 has no room for eight bits below a power of two, float32 has."""


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
            4 * self.warps * 8 * self.tiles[0] * _PITCH,
            (
                Let("first_column", BLOCK_X * COLUMNS),
                Let("first_row", BLOCK_Y * MOST_ROWS),
                Registers("sums", "float32", sums, zero=True),
                For("round", rounds, tuple(self._round())),
                *self._share(),
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
            body += self._decode(run, step)
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

    def _decode(self, run: int, step: int) -> list[Statement]:
        """Turn the lane's weights of one instruction into numbers of 16 bits less their points."""
        result: list[Statement] = []
        for i in range(4):
            target = register("left", i, "uint32")
            if self.bits == 4:
                stored = register("words", variable("turn") * 4 + (2 * run + step), "uint32")
                digits = (stored >> (4 * i)) & word(0x000F000F)
                result.append(Set(target, self._less_point(digits, i % 2)))
                continue
            stored = register("words", variable("turn") * 4 + (2 * step + i // 2), "uint32")
            if self.element == "f16":
                selector = 0x4140 if i % 2 == 0 else 0x4342
                digits = apply("permute_bytes", stored, word(0), word(selector))
                result.append(Set(target, self._less_point(digits, i % 2)))
                continue
            pair = [
                apply(
                    "fsub",
                    apply("as_float", apply("or", (stored >> s) & word(0xFF), word(_FLOAT_MAGIC))),
                    self._float_point(i % 2),
                )
                for s in (16 * (i % 2), 16 * (i % 2) + 8)
            ]
            result.append(Set(target, apply("pack_bf16", *pair)))
        return result

    def _offset(self) -> int:
        """What is added to signed weights before they are stored."""
        return 0 if self.has_points else 1 << (self.bits - 1)

    def _less_point(self, digits: Scalar, half: int) -> Scalar:
        """Complete the magic numbers of two digits and subtract what is too much."""
        magic = _MAGIC[self.element, self.bits]
        one = 0x3C003C00 if self.element == "f16" else 0x3F803F80
        negative = (magic | 0x8000) * 0x10001
        if self.has_points:
            point = register("point", half, "int32")
            pair = apply("or", point, point << 16)
            much = Scalar("or", "uint32", (pair, word(negative)))
        else:
            much = word(negative | self._offset() * 0x10001)
        numbers = apply("or", digits, word(magic * 0x10001))
        return apply(f"fma_{self.element}", numbers, word(one), much)

    def _float_point(self, half: int) -> Scalar:
        if not self.has_points:
            return Scalar("constant", "float32", (), float(2**23 + self._offset()))
        point = apply("int_to_float", register("point", half, "int32"))
        return apply("fadd", point, float(2**23))

    def _share(self) -> list[Statement]:
        """Each warp writes its sums: (warp, row of x, column)."""
        i = variable("i")
        row = i // 4 * 8 + (LANE & 3) * 2 + i % 2
        column = (LANE >> 2) + i // 2 % 2 * 8
        address = ((WARP * (8 * self.tiles[0]) + row) * _PITCH + column) * 4
        store = StoreShared(address, (register("sums", i, "float32"),))
        return [For("i", 4 * self.tiles[0], (store,), unrolled=True)]

    def _finish(self) -> list[Statement]:
        """Add the warps' sums in order, evaluate and store."""
        threads, count = 32 * self.warps, 8 * self.tiles[0] * COLUMNS
        unit, total = variable("unit"), register("total", 0, "float32")
        part = register("part", 0, "float32")
        row, column = variable("row"), variable("column")
        index = variable("source_warp") * (8 * self.tiles[0]) + unit // COLUMNS
        load = LoadShared((part,), (index * _PITCH + unit % COLUMNS) * 4)
        exists = both(
            less(unit, count) if count % threads else None,
            less(row, self.m) if self._has_slack else None,
            less(column, self.n) if self.n % COLUMNS else None,
        )
        body: tuple[Statement, ...] = (
            Registers("total", "float32", 1, zero=True),
            Registers("part", "float32", 1),
            For(
                "source_warp",
                self.warps,
                (load, Set(total, apply("fadd", total, part))),
                unrolled=True,
            ),
            *self.epilogue.statements(Place(row, column), [total]),
        )
        return [
            For(
                "turn",
                math.ceil(count / threads),
                (
                    Let("unit", variable("turn") * threads + THREAD),
                    Let("row", variable("first_row") + unit // COLUMNS),
                    Let("column", variable("first_column") + unit % COLUMNS),
                    *(body if exists is None else (If(exists, body),)),
                ),
            )
        ]
