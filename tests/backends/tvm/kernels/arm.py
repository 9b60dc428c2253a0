"""The dot and matrix products of 64-bit ARM, in instructions that every machine has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import tvm
from tvm import tirx
from tvm.tirx import Expr
from tvm.tirx.script import builder

from gcompile.backends.tvm.kernels import dot_arm
from gcompile.backends.tvm.kernels.dot_groups import Operand

FEATURES = {
    "neon": (),
    "neon-int8": (),
    "neon-dotprod": ("+dotprod",),
    "neon-usdot": ("+i8mm",),
    "neon-i8mm": ("+i8mm",),
    "neon-bf16-widened": (),
    "neon-fp16-widened": (),
    "neon-fp16": ("+fp16fml",),
    "neon-bf16": ("+bf16",),
    "neon-bf16-mmla": ("+bf16",),
}
"""The units, and what LLVM calls the instructions that they need besides NEON."""


def arm_target(features: Sequence[str]) -> tvm.target.Target:
    """A 64-bit ARM processor with NEON and these features."""
    options = {"kind": "llvm", "mtriple": "aarch64-linux-gnu", "mcpu": "generic"}
    return tvm.target.Target({**options, "mattr": ["+neon", *features], "num-cores": 4})


@dataclass(frozen=True)
class _Instruction:
    """Products of one instruction: each of four sums adds those of a row and of a column.

    Attributes:
        left: The type of the elements of the first operand, and of the second.
        rows: Which group of the first operand each sum takes, and of the second.
    """

    left: str
    right: str
    rows: tuple[int, int, int, int] = (0, 1, 2, 3)
    columns: tuple[int, int, int, int] = (0, 1, 2, 3)

    def add(self, dot: object, total: Expr, pixel: Operand, weights: Operand) -> Expr:
        """What the instruction does."""
        group = _elements(self.left) * 4 // len(set(self.rows))
        for element in range(group):
            left = _real(pixel[0], self.left, [row * group + element for row in self.rows])
            columns = [column * group + element for column in self.columns]
            total = total + left * _real(weights[0], self.right, columns)
        return total


_PAIRS = ((0, 0, 1, 1), (0, 1, 0, 1))
_INSTRUCTIONS = {
    "SignedDot": _Instruction("int8", "int8"),
    "MixedDot": _Instruction("uint8", "int8"),
    "MixedMatrix": _Instruction("uint8", "int8", *_PAIRS),
    "Float16Product": _Instruction("float16", "float16"),
    "Bfloat16Dot": _Instruction("bfloat16", "bfloat16"),
    "Bfloat16Matrix": _Instruction("bfloat16", "bfloat16", *_PAIRS),
}


@contextmanager
def emulated_instructions() -> Iterator[None]:
    """Kernels emitted inside this run on every machine."""
    with (
        mock.patch.object(dot_arm.Bfloat16Dot, "llvm", ""),
        mock.patch.object(dot_arm.Float16Product, "llvm", ""),
    ):
        patches = [
            mock.patch.object(getattr(dot_arm, name), "add", _method(instruction))
            for name, instruction in _INSTRUCTIONS.items()
        ]
        for patch in patches:
            patch.start()
        try:
            yield
        finally:
            for patch in patches:
                patch.stop()


def _method(instruction: _Instruction) -> object:
    def add(dot: object, total: Expr, pixel: Operand, weights: Operand) -> Expr:
        return instruction.add(dot, total, pixel, weights)

    return add


def _elements(dtype: str) -> int:
    return {"float16": 1, "bfloat16": 2}.get(dtype, 4)


def _real(vector: Expr, dtype: str, elements: list[int]) -> Expr:
    """Some elements of a register of 128 bits, each as wide as a sum."""
    if dtype == "float16":
        return builder.Cast("float32x4", vector)
    if dtype == "bfloat16":
        stored = tirx.Shuffle([builder.reinterpret("uint16x8", vector)], elements)
        bits = builder.Cast("uint32x4", stored) << builder.broadcast(builder.uint32(16), 4)
        return builder.reinterpret("float32x4", bits)
    stored = tirx.Shuffle([builder.reinterpret(f"{dtype}x16", vector)], elements)
    return builder.Cast("int32x4", stored)
