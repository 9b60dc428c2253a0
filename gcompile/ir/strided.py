"""Tensors that are read where another one lies: a shape, and the step along each of its axes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir

from gcompile.ir.shapes import static_shape

MOVES = frozenset({"Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
"""Operators whose result can be a strided view of their first input."""


@dataclass(frozen=True, slots=True)
class Strided:
    """Element (i, j, …) lies at i · strides[0] + j · strides[1] + … of a tensor in row order."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, shape: Sequence[int]) -> Strided:
        """A whole tensor in row order."""
        steps = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
        return cls(tuple(shape), tuple(steps))

    def after(self, node: onnx_ir.Node) -> Strided | None:
        """The result of one of `MOVES` on this, or None where it is not one in the same memory."""
        if node.op_type == "Transpose":
            order = node.attributes.get_ints("perm", list(range(len(self.shape)))[::-1])
            return Strided(
                tuple(self.shape[axis] for axis in order),
                tuple(self.strides[axis] for axis in order),
            )
        return self.reshaped(static_shape(node.outputs[0]))

    def reshaped(self, shape: Sequence[int]) -> Strided | None:
        """The same elements in the same order under another shape.

        Axes are cut wherever both shapes have a border. Within a cut, the axes of this one must
        follow each other in memory as in row order.
        """
        strides: list[int] = []
        pending = [axis for axis, size in enumerate(self.shape) if size != 1]
        wanted = list(shape)
        while wanted:
            if wanted[0] == 1:
                wanted.pop(0)
                strides.append(0)
                continue
            if not pending:
                return None
            taken, given = [pending.pop(0)], [wanted.pop(0)]
            while (old := math.prod(self.shape[a] for a in taken)) != (new := math.prod(given)):
                if old < new and pending:
                    taken.append(pending.pop(0))
                elif old > new and wanted:
                    given.append(wanted.pop(0))
                else:
                    return None
            if not self._is_one_run(taken):
                return None
            step = self.strides[taken[-1]]
            strides += [step * s for s in Strided.of(given).strides]
        return None if pending else Strided(tuple(shape), tuple(strides))

    def _is_one_run(self, axes: Sequence[int]) -> bool:
        return all(
            self.strides[outer] == self.strides[inner] * self.shape[inner]
            for outer, inner in itertools.pairwise(axes)
        )
