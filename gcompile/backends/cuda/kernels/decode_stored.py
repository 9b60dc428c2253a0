"""Weights of four or eight bits become numbers of 16 bits without conversions.

The bits of an integer q below the mantissa of 1024 (fp16) or 128 (bf16) are that number plus q,
from which 1024 + z is subtracted exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.backends.cuda.program.program import Set, Statement
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    register,
    variable,
    word,
)

_MAGIC = {("f16", 4): 0x6400, ("f16", 8): 0x6400, ("bf16", 4): 0x4300}
"""The bits of 1024 or 128, below whose mantissa a number of so many bits fits."""

_FLOAT_MAGIC = 0x4B000000
"""The bits of 2^23: bf16 has no room for eight bits below a power of two, float32 has."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How one kernel decodes.

    Attributes:
        element: What is multiplied: `f16` or `bf16`.
        bits: Of a weight: 4 or 8.
        has_points: Weights have zero points of their own; otherwise they are signed.
    """

    element: str
    bits: int
    has_points: bool

    def words(self, run: int, step: int) -> list[Statement]:
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

    @property
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
            much = word(negative | self._offset * 0x10001)
        numbers = apply("or", digits, word(magic * 0x10001))
        return apply(f"fma_{self.element}", numbers, word(one), much)

    def _float_point(self, half: int) -> Scalar:
        if not self.has_points:
            return Scalar("constant", "float32", (), float(2**23 + self._offset))
        point = apply("int_to_float", register("point", half, "int32"))
        return apply("fadd", point, float(2**23))
