"""Recurrent nets seen as one large product and a chain of small ones.

    gates[t] = X[t] · Wᵀ + H[t - 1] · Rᵀ + B,    H[t] = cell(gates[t])

The first product needs no state: that of all steps is one matrix product, the projection. The
second one is done step by step.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir

from gcompile.ir.contraction import Contraction
from gcompile.ir.shapes import static_shape

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
"""Rows of weights per hidden unit."""

_CELL_OPS = {"RNN": 14, "GRU": 48, "LSTM": 76}
"""Vector operations per hidden unit and step besides the product: mostly exponentials."""


@dataclass(frozen=True, slots=True)
class Recurrence:
    """The sizes of one RNN, GRU or LSTM.

    Attributes:
        operator: `RNN`, `GRU` or `LSTM`.
        steps: Length of the sequence.
        batch: Sequences that run side by side.
        depth: Elements of one input.
        hidden: Elements of one state.
        directions: 1, or 2 where one net runs forward and another one backward.
    """

    operator: str
    steps: int
    batch: int
    depth: int
    hidden: int
    directions: int

    @property
    def gates(self) -> int:
        """Rows of weights per hidden unit."""
        return GATES[self.operator]

    @property
    def projection(self) -> Contraction:
        """The product of the inputs of all steps with the weights of both directions."""
        columns = self.directions * self.gates * self.hidden
        return Contraction.matmul(self.steps * self.batch, self.depth, columns)

    @property
    def recurrent_count(self) -> int:
        """Recurrent weights: every step reads them all."""
        return self.directions * self.gates * self.hidden * self.hidden

    @property
    def step_ops(self) -> int:
        """Operations that wait for the state: 2 per multiply-accumulate, and the cells'."""
        cells = self.directions * self.hidden * _CELL_OPS[self.operator]
        return self.steps * self.batch * (2 * self.recurrent_count + cells)


def recurrence_of(node: onnx_ir.Node) -> Recurrence | None:
    """Return the sizes of a recurrent net, or None for any other node.

    Raises:
        InvalidModelError: A shape is not known.
    """
    if node.domain or node.op_type not in GATES:
        return None
    steps, batch, depth = static_shape(node.inputs[0])
    directions, _, hidden = static_shape(node.inputs[2])
    return Recurrence(node.op_type, steps, batch, depth, hidden, directions)
