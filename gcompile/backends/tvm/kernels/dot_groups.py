"""What units have in common: those of single numbers, and those of groups in a lane's bits."""

from __future__ import annotations

from typing import Protocol

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.lanes import Lanes

Operand = tuple[Expr, ...]


class Dot(Protocol):
    """What the loop nest needs to know of a unit."""

    @property
    def llvm(self) -> str:
        """LLVM functions that `add` calls, as text; empty where it calls none."""

    def start(self, packed: Buffer, block: Expr) -> Expr:
        """Return what the sums of a block of channels start from."""

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        """Load the group at an address of the flat input into every lane.

        Units that multiply several pixels at once are given as many addresses.
        """

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        """Load one step's weights of a block of channels."""

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        """Return the accumulator with the products added."""


class Numbers:
    """Units that take one number of depth in every lane; by itself, a fused multiply-add."""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes

    @property
    def llvm(self) -> str:
        return ""

    def start(self, packed: Buffer, block: Expr) -> Expr:
        return self.lanes.splat(0.0)

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        return (T.Bind(self.lanes.splat(x[addresses[0]])),)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        return (T.Bind(packed[block, step, self.lanes.index(0)]),)

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        return accumulator + pixel[0] * weights[0]


class Groups:
    """Units that take a group as the 32 bits of one lane."""

    group: int
    accumulator_dtype = "int32"

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes

    @property
    def llvm(self) -> str:
        return ""

    def start(self, packed: Buffer, block: Expr) -> Expr:
        return self.lanes.splat(0, self.accumulator_dtype)

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        bits = T.reinterpret("int32", x[T.ramp(addresses[0], 1, self.group)])
        return (T.Bind(self.lanes.splat(bits)),)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        stored = packed[block, step, T.ramp(0, 1, self.lanes.count * self.group)]
        return (T.Bind(self.lanes.reinterpret("int32", stored)),)
