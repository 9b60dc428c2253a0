"""The keys and values of one head in the order in which units read them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import loop, scratch, view
from gcompile.backends.tvm.kernels.left_rows import whole_steps
from gcompile.backends.tvm.kernels.matrices import Matrices, Matrix
from gcompile.backends.tvm.kernels.packing_at_run_time import Packing
from gcompile.backends.tvm.kernels.units import Unit
from gcompile.backends.tvm.kernels.zero_points import ZeroPoints

if TYPE_CHECKING:
    from gcompile.backends.tvm.kernels.attention import AttentionKernel


@dataclass(frozen=True, slots=True)
class PackedHead:
    """Memory for the keys and values of one head, in whole blocks.

    Attributes:
        of_scores: What sums of products of queries and keys are corrected by.
        of_values: What sums of products of weights and values are corrected by.
    """

    kernel: AttentionKernel
    unit: Unit
    keys: Buffer
    values: Buffer
    of_scores: ZeroPoints
    of_values: ZeroPoints

    @classmethod
    def of(
        cls, kernel: AttentionKernel, unit: Unit, queries: Matrices, weights: Matrices
    ) -> PackedHead:
        """Take memory, given the left operands of both products of a block."""
        blocks, depth = kernel.key_blocks, kernel.block[1]
        of_keys, of_values = _keys(kernel, unit), _values(kernel, unit, kernel.values.rows)
        one = _values(kernel, unit, depth).shape
        values = (blocks * one[0], *one[1:])
        left, right, weighted = kernel.zero_points
        return cls(
            kernel,
            unit,
            replace(of_keys, columns=blocks * depth).memory(),
            view(scratch(values[0] * values[1] * values[2], unit.weight_dtype), values),
            ZeroPoints.of((left, right), queries, of_keys),
            ZeroPoints.of((0, weighted), weights, of_values),
        )

    def write(self, keys: Matrix, values: Matrix) -> None:
        """Pack one head."""
        kernel, unit = self.kernel, self.unit
        _keys(kernel, unit).write(keys, self.keys)
        full, rest = divmod(kernel.values.rows, kernel.block[1])

        def block(index: Expr, rows: int) -> None:
            start = T.Bind(values.start + index * kernel.block[1] * values.pitch)
            packed = _values(kernel, unit, rows)
            part = replace(values, start=start, rows=rows)
            packed.write(part, self.values, index * packed.shape[0])

        loop(0, full, lambda index: block(index, kernel.block[1]))
        if rest:
            block(full, rest)
        self.of_scores.add_up_columns(self.keys)
        self.of_values.add_up_columns(self.values)


def _keys(kernel: AttentionKernel, unit: Unit) -> Packing:
    keys = kernel.keys
    depth = whole_steps(unit, keys.columns)
    return Packing(unit, keys.rows, keys.columns, depth, True, keys.image.dtype)


def _values(kernel: AttentionKernel, unit: Unit, rows: int) -> Packing:
    """One block of values of which so many rows exist; zeros follow them."""
    values = kernel.values
    return Packing(unit, values.columns, rows, kernel.block[1], False, values.image.dtype)
