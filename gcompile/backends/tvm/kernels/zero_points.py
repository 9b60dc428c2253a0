"""Zero points of operands that are both only known at run time.

    Σ_k (l - z_l)·(r - z_r) = Σ_k l·r - z_l·Σ_k r - z_r·Σ_k l + K·z_l·z_r

The unit adds up the products of bytes as they are stored. The sums over the columns of the right
operand and over the rows of the left one are added up beside it, all in int32.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.dot import dot_of
from gcompile.backends.tvm.kernels.function import loop, scratch
from gcompile.backends.tvm.kernels.image_access import Position
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, for_each_vector
from gcompile.backends.tvm.kernels.left_rows import LeftRows
from gcompile.backends.tvm.kernels.matrices import Matrices
from gcompile.backends.tvm.kernels.packing_at_run_time import Packing
from gcompile.backends.tvm.kernels.rows import across, add


@dataclass(frozen=True, slots=True)
class ZeroPoints:
    """What products of one shape are corrected by.

    Attributes:
        left: The zero point of the left operand as the unit reads it: unsigned.
        right: The zero point of the right operand as the unit reads it: signed.
        columns: Room for the sum of each column of a right operand; None where none is needed.
        rows: Room for the sum of each row of a left operand; None where none is needed.
    """

    left: int
    right: int
    packing: Packing
    columns: Buffer | None
    rows: Buffer | None

    @classmethod
    def of(cls, zero_points: tuple[int, int], left: Matrices, packing: Packing) -> ZeroPoints:
        """Take memory for the sums that are needed."""
        if packing.unit.x_dtype != "uint8":
            return cls(0, 0, packing, None, None)
        left_zero = zero_points[0] + (128 if left.image.dtype == "int8" else 0)
        right_zero = zero_points[1] - (128 if packing.dtype == "uint8" else 0)
        lanes = packing.shape[0] * packing.unit.lanes
        wants_columns = bool(left_zero) or packing.unit.signed_dot
        return cls(
            left_zero,
            right_zero,
            packing,
            scratch(lanes, "int32") if wants_columns else None,
            scratch(left.rows, "int32") if right_zero else None,
        )

    def add_up_columns(self, packed: Buffer) -> None:
        """Add up the columns of a right operand that has been packed."""
        unit, sums = self.packing.unit, self.columns
        if sums is None:
            return
        dot, lanes = dot_of(unit), Lanes(unit.lanes)
        blocks, steps, _ = self.packing.shape
        ones = scratch(4, "uint8")
        # Units of signed bytes lower what they read by 128.
        T.buffer_store(ones, Lanes(4).splat(129 if unit.signed_dot else 1, "uint8"), [_four()])
        total = Register.of("int32", lanes)

        def block(index: Expr) -> None:
            total.set(lanes.splat(0, "int32"))
            with T.serial(steps - unit.signed_dot) as step:
                weights = dot.weights(packed, index, step)
                total.set(dot.add(total.value, dot.pixel(ones, 0), weights))
            T.buffer_store(sums, total.value, [lanes.index(index * unit.lanes)])
            if unit.signed_dot:
                lost = total.value * lanes.splat(128, "int32")
                stored = Lanes(unit.lanes * 4)
                T.buffer_store(
                    packed,
                    stored.reinterpret("int8", lost),
                    [index, steps - 1, stored.index(0)],
                )

        loop(0, blocks, block)

    def add_up_rows(self, rows: LeftRows, origin: Expr) -> None:
        """Add up the rows of a left operand that lies at `origin`."""
        sums = self.rows
        if sums is None:
            return
        lanes = Lanes(self.packing.unit.lanes)
        total = Register.of("int32", lanes)
        with T.serial(rows.matrices.rows) as row:
            total.set(lanes.splat(0, "int32"))

            def take(offset: Expr, part: Lanes) -> None:
                stored = rows.line[part.index(origin + row * rows.pitch + offset)]
                added = total.part(0, part) + part.cast("int32", stored)
                T.buffer_store(total.buffer, added, [part.index(0)])

            for_each_vector(rows.matrices.columns, lanes.count, take)
            T.buffer_store(sums, across(total, add), [row])

    def corrected(self, position: Position, lanes: Lanes, total: Expr) -> Expr:
        """The sum of products of differences, given the sum of products."""
        if self.columns is not None and self.left:
            sums = self.columns[lanes.index(position.channel)]
            total = total - sums * lanes.splat(self.left, "int32")
        if self.rows is not None:
            total = total - lanes.splat(self.rows[position.x] * self.right)
        constant = self.packing.depth * self.left * self.right
        return total + lanes.splat(constant, "int32") if constant else total


def _four() -> Expr:
    return Lanes(4).index(0)
