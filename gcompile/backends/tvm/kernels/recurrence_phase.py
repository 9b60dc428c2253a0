"""One phase of a step of a recurrent net: the product with the state, and the cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.cells import Phase, State
from gcompile.backends.tvm.kernels.function import loop
from gcompile.backends.tvm.kernels.lanes import Register, bind
from gcompile.backends.tvm.kernels.recurrent_net import RecurrenceKernel

if TYPE_CHECKING:
    from gcompile.backends.tvm.kernels.recurrence import Net


@dataclass(frozen=True, slots=True)
class PhaseOfStep:
    """One phase of a step: sums of its gates, block by block, and what the cell makes of them."""

    net: Net
    phase: Phase
    weights: int
    states: list[Buffer]
    half: Expr
    time: Expr

    @property
    def kernel(self) -> RecurrenceKernel:
        return self.net.kernel

    def run(self) -> None:
        columns, lanes = self.net.shared.columns, self.kernel.lanes
        full, rest = divmod(self.kernel.hidden, lanes.count)
        loop(0, full // columns, lambda n: self._block(n * columns, [lanes.count] * columns))
        tail = [lanes.count] * (full % columns) + ([rest] if rest else [])
        if tail:
            self._block(full // columns * columns, tail)

    def _block(self, first: Expr, valid: list[int]) -> None:
        """Some vectors of hidden units of all sequences; `valid` lanes of each exist."""
        lanes, gates = self.kernel.lanes, self.phase.gates
        sums = [
            [[Register.of("float32", lanes) for _ in range(gates)] for _ in valid]
            for _ in range(self.net.rows)
        ]
        for register in (r for row in sums for vector in row for r in vector):
            register.set(lanes.splat(0.0))
        self._accumulate(first, sums)
        for row, vectors in enumerate(sums):
            for column, registers in enumerate(vectors):
                self._finish(row, first + column, registers, valid[column])

    def _accumulate(self, first: Expr, sums: list[list[list[Register]]]) -> None:
        lanes, gates, depth = self.kernel.lanes, self.phase.gates, self.kernel.hidden
        recurrent = self.net.shared.buffers["recurrent"]
        columns = len(sums[0])

        def weight(column: int, k: Expr, gate: int) -> Expr:
            at = ((first + column) * depth + k) * gates + gate
            return bind(recurrent[lanes.index(self.weights + at * lanes.count)])

        def take(k: Expr) -> None:
            scalars = [lanes.splat(bind(self._multiplied(row, k))) for row in range(len(sums))]
            for column in range(columns):
                for gate in range(gates):
                    loaded = weight(column, k, gate)
                    for row, scalar in enumerate(scalars):
                        register = sums[row][column][gate]
                        register.set(register.value + scalar * loaded)

        loop(0, depth, take)

    def _multiplied(self, row: int, k: Expr) -> Expr:
        """Element `k` of what the product takes: the state, or what a phase before left."""
        if self.phase.reads is None:
            return self.states[0][self._of_state(row, self.half) + k]
        return self.states[self.phase.reads][row * self.kernel.padded + k]

    def _of_state(self, row: int, half: Expr) -> Expr:
        return (half * self.net.rows + row) * self.kernel.padded

    def _finish(self, row: int, vector: Expr, sums: list[Register], valid: int) -> None:
        lanes, padded = self.kernel.lanes, self.kernel.padded
        unit = vector * lanes.count
        line = self.net.projected(self.time, row)
        start = (self.net.index * self.kernel.cell.gates + self.phase.first_gate) * padded + unit
        projected = self.net.shared.buffers["projected"]
        inputs = [
            bind(projected[0, 0, line, lanes.index(start + gate * padded)])
            for gate in range(self.phase.gates)
        ]
        old = bind(self.states[0][lanes.index(self._of_state(row, self.half) + unit)])
        others = {
            number: bind(self.states[number][lanes.index(row * padded + unit)])
            for number in self.phase.keeps
        }
        state = State(
            kernel_lanes=lanes,
            sums=[register.value for register in sums],
            inputs=inputs,
            old=old,
            others=others,
            constant=lambda name, number: self._constant(name, number, unit),
            activate=self._activate,
            couples_forgetting=self.kernel.couples_forgetting,
            has_peepholes=self.kernel.has_peepholes,
        )
        for number, value in self.phase.compute(state).items():
            self._keep(row, unit, number, value, old, others, valid)

    def _keep(
        self,
        row: int,
        unit: Expr,
        number: int,
        value: Expr,
        old: Expr,
        others: dict[int, Expr],
        valid: int,
    ) -> None:
        """Write a state; that of a sequence that has ended stays, and its output is zero."""
        lanes = self.kernel.lanes
        new, ended = bind(value), None
        if self.kernel.has_lengths:
            length = self.net.shared.buffers["lengths"][self.net.first + row]
            ended = lanes.splat(bind(length), "int32") <= lanes.splat(self.time, "int32")
        if number:
            kept = new if ended is None else T.Select(ended, others.get(number, new), new)
            at = row * self.kernel.padded + unit
            T.buffer_store(self.states[number], kept, [lanes.index(at)])
            return
        kept = new if ended is None else bind(T.Select(ended, old, new))
        at = self._of_state(row, 1 - self.half) + unit
        T.buffer_store(self.states[0], kept, [lanes.index(at)])
        shown = Register.of("float32", lanes)
        shown.set(new if ended is None else T.Select(ended, lanes.splat(0.0), new))
        self.net.store(row, self.time, unit, shown, valid)

    def _constant(self, name: str, number: int, unit: Expr) -> Expr:
        lanes, buffer = self.kernel.lanes, self.net.shared.buffers[name]
        index = lanes.index(unit)
        if name == "peepholes":
            return buffer[self.net.index, number, index]
        return buffer[self.net.index, index]

    def _activate(self, number: int, value: Expr) -> Expr:
        lanes, clip = self.kernel.lanes, self.kernel.clip
        if clip:
            value = T.min(lanes.splat(clip), T.max(lanes.splat(-clip), value))
        return self.kernel.directions[self.net.index].activations[number].of(bind(value), lanes)
