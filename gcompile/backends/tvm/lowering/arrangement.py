"""Rearrange a tensor before a kernel reads it: now if it is constant, else at run time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.lowering.emission import Emission
from gcompile.backends.tvm.lowering.memory import Memory


@dataclass(frozen=True)
class Arranged:
    """A float32 tensor on its way to a kernel.

    Attributes:
        array: Its data, where they are known.
        variable: The Relax variable that has them at run time otherwise.
    """

    emission: Emission
    shape: tuple[int, ...]
    array: ir.Array | None = None
    variable: relax.Expr | None = None

    @classmethod
    def of(cls, value: ir.Value, memory: Memory) -> Arranged:
        """A value of the model as it is."""
        shape, array = ir.static_shape(value), ir.constant_array(value)
        if array is not None:
            return cls(memory.emission, shape, array=array)
        return cls(memory.emission, shape, variable=memory.plain(value))

    def reshaped(self, shape: Sequence[int]) -> Arranged:
        """The same elements in the same order."""
        if self.array is not None:
            return self._known(self.array.reshape(shape))
        return self._computed(relax.op.reshape(self.variable, tuple(shape)), shape)

    def transposed(self, order: Sequence[int]) -> Arranged:
        """The axes in another order."""
        if self.array is not None:
            return self._known(self.array.transpose(order))
        shape = [self.shape[axis] for axis in order]
        return self._computed(relax.op.permute_dims(self.variable, list(order)), shape)

    def padded(self, axis: int, size: int) -> Arranged:
        """Zeros at the end of an axis, until it has the size given."""
        after = size - self.shape[axis]
        if not after:
            return self
        widths = [(0, after if i == axis else 0) for i in range(len(self.shape))]
        if self.array is not None:
            return self._known(np.pad(self.array, widths))
        shape = [size if i == axis else extent for i, extent in enumerate(self.shape)]
        flat = [width for pair in widths for width in pair]
        return self._computed(relax.op.nn.pad(self.variable, flat, "constant", 0.0), shape)

    def part(self, axis: int, start: int, stop: int) -> Arranged:
        """Some of the elements along an axis."""
        if (start, stop) == (0, self.shape[axis]):
            return self
        if self.array is not None:
            return self._known(self.array.take(range(start, stop), axis))
        shape = [stop - start if i == axis else extent for i, extent in enumerate(self.shape)]
        return self._computed(
            relax.op.strided_slice(self.variable, [axis], [start], [stop]), shape
        )

    def followed_by(self, other: Arranged, axis: int) -> Arranged:
        """Both, one after the other along an axis; both are known or neither."""
        if self.array is not None and other.array is not None:
            return self._known(np.concatenate([self.array, other.array], axis))
        shape = list(self.shape)
        shape[axis] += other.shape[axis]
        return self._computed(relax.op.concat([self.variable, other.variable], axis), shape)

    def plus(self, other: Arranged) -> Arranged:
        """The sum of two of the same shape."""
        if self.array is not None and other.array is not None:
            return self._known(np.add(self.array, other.array))
        return self._computed(relax.op.add(self.expression, other.expression), self.shape)

    @property
    def expression(self) -> relax.Expr:
        """What a kernel is given."""
        if self.array is not None:
            return self.emission.constant(np.asarray(self.array, np.float32))
        return self.variable

    def _known(self, array: ir.Array) -> Arranged:
        return Arranged(self.emission, array.shape, array=array)

    def _computed(self, expression: relax.Expr, shape: Sequence[int]) -> Arranged:
        variable = self.emission.emit(expression)
        return Arranged(self.emission, tuple(shape), variable=variable)
