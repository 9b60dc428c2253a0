"""What attention is asked to do, and how its tensors lie.

O = softmax(scale · Q Kᵀ + mask) V
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gcompile.backends.cuda.kernels.numbers import AT_ONCE
from gcompile.backends.cuda.program.instruction import (
    ASYNC_ARCH,
    Instruction,
    instruction_for,
)
from gcompile.backends.cuda.program.program import Buffer, Storage
from gcompile.ir.attention import Rows

QUERIES = 16
"""Queries of one warp."""

LOG2_E = math.log2(math.e)

WEIGHT_FACTOR, ZERO_POINTS, RESULT_FACTOR, RESULT_ZERO_POINT = 0, 1, 4, 5
"""Places in the numbers of an attention: the factor of weights, which become exponents of two, the
zero points of q, k and v, the factor of the result and the zero point of o."""


@dataclass(frozen=True, slots=True)
class Stored:
    """How the numbers of one tensor are stored: real = scale · (stored - zero_point).

    Integers are decoded on their way into shared memory, which both formats of the products do
    exactly; tensors stored as floats have no scale.
    """

    storage: Storage
    scale: float = 1.0
    zero_point: int = 0

    @property
    def is_integer(self) -> bool:
        """Whether it must be decoded."""
        return self.storage in ("int8", "uint8")


@dataclass(frozen=True)
class Mask:
    """Numbers that are added to the weights: (batch or 1, heads or 1, queries or 1, keys).

    Attributes:
        storage: `float16`, `bfloat16` or `float32`.
    """

    shape: tuple[int, int, int, int]
    storage: Storage = "float32"


@dataclass(frozen=True)
class Attention:
    """What is attended to.

    The program's arguments are `q`, `k`, `v`, the `mask` if there is one, the `numbers` where any
    of them are integers, and `o`.

    Attributes:
        name: Of the program.
        element: What is multiplied: `f16` or `bf16`.
        batch: Sequences.
        heads: Heads of the queries.
        key_heads: Heads of keys and values, which divide them: each serves a run of query heads.
        queries: Vectors of each head of q and o.
        keys: Vectors of each head of k and v.
        depth: Elements of a vector, a multiple of 8.
        scale: Factor of the products before the mask.
        causal: Query i sees keys up to i + keys - queries.
        zero_if_hidden: Queries that see no key at all give zeros, and not NaN.
        rows: How q, k, v and o lie.
        stored: How q, k, v and o are stored; None stores the element.
        warps: Of a block; each has 16 queries.
        block_keys: Keys that are brought into shared memory at once, a multiple of 16.
        arch: The architecture whose instructions it may use.

    Raises:
        ValueError: The sizes are none that the kernel can do.
    """

    name: str
    element: str
    batch: int
    heads: int
    key_heads: int
    queries: int
    keys: int
    depth: int
    scale: float
    causal: bool
    rows: tuple[Rows, Rows, Rows, Rows]
    mask: Mask | None = None
    warps: int = 4
    block_keys: int = 64
    zero_if_hidden: bool = False
    stored: tuple[Stored, Stored, Stored, Stored] | None = None
    arch: int = ASYNC_ARCH

    def __post_init__(self) -> None:
        if self.depth % 8 or self.heads % self.key_heads or self.block_keys % 16:
            raise ValueError("Vectors have 8n elements, and key heads divide the heads.")
        if self.element not in ("f16", "bf16"):
            raise ValueError("Attention runs in fp16 and bf16.")

    @property
    def instruction(self) -> Instruction:
        """What multiplies."""
        return instruction_for(self.element, self.arch)

    @property
    def by_registers(self) -> bool:
        """Vectors pass through registers on their way into shared memory."""
        return self.arch < ASYNC_ARCH

    @property
    def block_queries(self) -> int:
        """Queries of one block."""
        return self.warps * QUERIES

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * self.warps

    @property
    def tensors(self) -> tuple[Stored, Stored, Stored, Stored]:
        """How q, k, v and o are stored."""
        plain = Stored("float16" if self.element == "f16" else "bfloat16")
        return self.stored or (plain, plain, plain, plain)

    @property
    def weight_scale(self) -> float:
        """Factor of the products of stored numbers before the mask."""
        q, k, _, _ = self.tensors
        return self.scale * q.scale * k.scale

    @property
    def has_integers(self) -> bool:
        """Whether its scales and zero points are an argument."""
        return any(tensor.is_integer for tensor in self.tensors)

    @property
    def numbers(self) -> tuple[float, ...]:
        """What the argument holds, in the places that are named above."""
        q, k, v, o = self.tensors
        points = (float(tensor.zero_point) for tensor in (q, k, v))
        factor = self.weight_scale * LOG2_E
        numbers = (factor, *points, v.scale / o.scale, float(o.zero_point))
        return numbers + (0.0,) * (-len(numbers) % AT_ONCE)

    @property
    def without_numbers(self) -> Attention:
        """The same kernel, whatever its numbers are."""
        if not self.has_integers:
            return self
        q, k, v, o = (Stored(tensor.storage) for tensor in self.tensors)
        return replace(self, scale=1.0, stored=(q, k, v, o))

    @property
    def buffers(self) -> tuple[Buffer, Buffer, Buffer, Buffer]:
        """The memory of q, k, v and o."""
        return (
            self._buffer("q", 0, self.heads, self.queries),
            self._buffer("k", 1, self.key_heads, self.keys),
            self._buffer("v", 2, self.key_heads, self.keys),
            self._buffer("o", 3, self.heads, self.queries),
        )

    @property
    def mask_buffer(self) -> Buffer | None:
        """The memory of the mask."""
        if self.mask is None:
            return None
        return Buffer("mask", self.mask.storage, math.prod(self.mask.shape))

    def _buffer(self, name: str, tensor: int, heads: int, count: int) -> Buffer:
        """Up to the last element that is used."""
        rows = self.rows[tensor]
        last = rows.offset + (self.batch - 1) * rows.batch_pitch + (heads - 1) * rows.head_pitch
        elements = last + (count - 1) * rows.pitch + self.depth
        return Buffer(name, self.tensors[tensor].storage, elements, written=tensor == 3)
