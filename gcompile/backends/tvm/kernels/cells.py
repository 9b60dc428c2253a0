"""What RNN, GRU and LSTM make of the sums of their gates, as ONNX defines them.

In the equations, x are the projected inputs with their biases, s the products with the state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Expr

from gcompile.backends.tvm.kernels.lanes import Lanes, bind
from gcompile.backends.tvm.kernels.vector_math import UNARY


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of `vector_math.UNARY`, with its parameters."""

    function: str
    alpha: float = 0.0
    beta: float = 0.0

    def of(self, value: Expr, lanes: Lanes) -> Expr:
        """The function of a vector."""
        return bind(UNARY[self.function](value, lanes, self.alpha, self.beta))


@dataclass(frozen=True, slots=True)
class State:
    """What a cell may read: vectors of the same hidden units.

    Attributes:
        sums: The products with the state, one for each gate of the phase.
        inputs: The projected inputs, likewise.
        old: The state before the step.
        others: Other states, by number.
        constant: A vector of `inside` or of one of the `peepholes`.
        activate: One of the net's activations, of a clipped value.
    """

    kernel_lanes: Lanes
    sums: list[Expr]
    inputs: list[Expr]
    old: Expr
    others: dict[int, Expr]
    constant: Callable[[str, int], Expr]
    activate: Callable[[int, Expr], Expr]
    couples_forgetting: bool
    has_peepholes: bool

    @property
    def one(self) -> Expr:
        """One in every lane."""
        return self.kernel_lanes.splat(1.0)

    def gate(self, number: int) -> Expr:
        """A gate before its activation."""
        return self.inputs[number] + self.sums[number]


@dataclass(frozen=True, slots=True)
class Phase:
    """Gates that are summed up together.

    Attributes:
        gates: How many, from `first_gate` on.
        compute: New states by number: 0 is that which the net gives.
        keeps: Numbers of the other states that it reads.
        reads: The state that is multiplied, where it is not that of the step before.
    """

    gates: int
    compute: Callable[[State], dict[int, Expr]]
    keeps: tuple[int, ...] = ()
    first_gate: int = 0
    reads: int | None = None


@dataclass(frozen=True, slots=True)
class Cell:
    """The phases of a step, and how many states there are besides the first."""

    phases: tuple[Phase, ...]
    others: int = 0

    @property
    def gates(self) -> int:
        """Gates of all phases."""
        return sum(phase.gates for phase in self.phases)


def cell_of(operator: str, *, resets_inside: bool) -> Cell:
    """The cell of an ONNX operator."""
    if operator == "RNN":
        return Cell((Phase(1, _rnn),))
    if operator == "LSTM":
        return Cell((Phase(4, _lstm, keeps=(1,)),), others=1)
    if resets_inside:
        return Cell((Phase(3, _gru_inside),))
    update, reset = 1, 2
    return Cell(
        (
            Phase(2, _gru_gates),
            Phase(1, _gru_state, keeps=(update,), first_gate=2, reads=reset),
        ),
        others=2,
    )


def _rnn(state: State) -> dict[int, Expr]:
    """H' = f(x + s)."""
    return {0: state.activate(0, state.gate(0))}


def _gru_inside(state: State) -> dict[int, Expr]:
    """Z = f(x + s), r = f(x + s), n = g(x + r·(s + b)), h' = (1 - z)·n + z·h."""
    update = state.activate(0, state.gate(0))
    reset = state.activate(0, state.gate(1))
    product = state.sums[2] + state.constant("inside", 0)
    new = state.activate(1, state.inputs[2] + reset * product)
    return {0: (state.one - update) * new + update * state.old}


def _gru_gates(state: State) -> dict[int, Expr]:
    """Z = f(x + s), and r·h with r = f(x + s)."""
    update = state.activate(0, state.gate(0))
    return {1: update, 2: state.activate(0, state.gate(1)) * state.old}


def _gru_state(state: State) -> dict[int, Expr]:
    """N = g(x + s) where s is the product with r·h, h' = (1 - z)·n + z·h."""
    update = state.others[1]
    new = state.activate(1, state.gate(0))
    return {0: (state.one - update) * new + update * state.old}


def _lstm(state: State) -> dict[int, Expr]:
    """i, o, f = f(x + s + p·c), n = g(x + s), c' = f·c + i·n, h' = o·h(c'), where o sees c'."""
    cell = state.others[1]

    def gate(number: int, peephole: int, seen: Expr) -> Expr:
        value = state.gate(number)
        if state.has_peepholes:
            value = value + state.constant("peepholes", peephole) * seen
        return state.activate(0, value)

    enter = gate(0, 0, cell)
    forget = state.one - enter if state.couples_forgetting else gate(2, 2, cell)
    new = bind(forget * cell + enter * state.activate(1, state.gate(3)))
    leave = gate(1, 1, new)
    return {0: leave * state.activate(2, new), 1: new}
