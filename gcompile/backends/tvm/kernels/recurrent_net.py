"""Recurrent nets as kernels know them: RNN, GRU and LSTM."""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.backends.tvm.kernels.cells import Activation, Cell, cell_of
from gcompile.backends.tvm.kernels.lanes import Lanes
from gcompile.backends.tvm.kernels.spec import Kernel

_FLOAT_BITS = 32


@dataclass(frozen=True, slots=True)
class Direction:
    """One net: where it begins, and the functions of its gates."""

    is_reverse: bool
    activations: tuple[Activation, ...]


@dataclass(frozen=True, slots=True)
class RecurrenceKernel(Kernel):
    """All steps of one or two recurrent nets over a batch of sequences.

    The arguments are `projected`, the products with the inputs and their biases, one row for each
    input in the order in which the model has them, (directions, gates, padded hidden) in each row;
    the packed `recurrent` weights (see `weight_count`); then, where there are any, the biases of a
    reset gate inside (directions, padded hidden), the peepholes (directions, 3, padded hidden),
    the first states as the model has them, and the lengths of the sequences as int32; then the
    output: the `results` one after the other as the model has them.

    Attributes:
        operator: `RNN`, `GRU` or `LSTM`, with gates in ONNX's order.
        clip: What enters an activation is held within ±clip; 0 leaves it as it is.
        resets_inside: A GRU multiplies by the reset gate after the product with the state.
        couples_forgetting: The forget gate of an LSTM is one minus its input gate.
        results: What is written: `y` all states, `h` the last state, `c` the last cell state.
    """

    operator: str = "RNN"
    steps: int = 1
    batch: int = 1
    hidden: int = 1
    directions: tuple[Direction, ...] = ()
    clip: float = 0.0
    resets_inside: bool = False
    couples_forgetting: bool = False
    has_peepholes: bool = False
    has_first_h: bool = False
    has_first_c: bool = False
    has_lengths: bool = False
    results: tuple[str, ...] = ("y",)

    @property
    def lanes(self) -> Lanes:
        """Vectors as wide as the registers, and not much wider than the state."""
        widest = self.vector_bits // _FLOAT_BITS
        return Lanes(min(widest, 1 << (self.hidden - 1).bit_length()))

    @property
    def vectors(self) -> int:
        """Vectors of one state."""
        return -(-self.hidden // self.lanes.count)

    @property
    def padded(self) -> int:
        """Elements of one state as gates and weights are padded to."""
        return self.vectors * self.lanes.count

    @property
    def cell(self) -> Cell:
        """What a step does with the sums of its gates."""
        return cell_of(self.operator, resets_inside=self.resets_inside)

    @property
    def weight_count(self) -> int:
        """Packed recurrent weights: (directions, phases, vectors, hidden, gates, lanes)."""
        return len(self.directions) * self.cell.gates * self.padded * self.hidden

    @property
    def result_sizes(self) -> tuple[int, ...]:
        """Elements of each result."""
        last = len(self.directions) * self.batch * self.hidden
        return tuple(last * self.steps if name == "y" else last for name in self.results)
