"""The part of recurrent nets that goes step by step: RNN, GRU and LSTM.

The inputs of all steps were multiplied before, in one product. What is left of a step is a small
product with the state and the cell, which a block of vectors of hidden units does at once: the
sums of all its gates stay in registers until the new state is written.

Where a gate multiplies the state before the product (a GRU that resets before), a step has two
phases; the others have one.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm.tirx import Buffer, Expr, PrimFunc
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.function import Argument, Code, loop, parallel, scratch
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, for_each_vector, pieces
from gcompile.backends.tvm.kernels.recurrence_phase import PhaseOfStep
from gcompile.backends.tvm.kernels.recurrent_net import RecurrenceKernel

_LEAST_ALIGNED = 257
_REGISTERS = {512: 24, 256: 12, 128: 12}
"""Sums of one block: the other registers hold weights and what the cell computes."""
_LEAST_SUMS = 8
"""Sums that hide the latency of an addition."""


def emit(kernel: RecurrenceKernel, name: str) -> PrimFunc:
    """Make a function of the kernel; see `code`."""
    return code(kernel).function(name)


def code(kernel: RecurrenceKernel) -> Code:
    """Emit the steps."""
    arguments = _arguments(kernel)

    def write(buffers: list[Buffer]) -> None:
        names = [argument.name for argument in arguments]
        _Steps(kernel, dict(zip(names, buffers, strict=True))).write()

    return Code(arguments, write)


def _arguments(kernel: RecurrenceKernel) -> tuple[Argument, ...]:
    count, padded = len(kernel.directions), kernel.padded
    columns = count * kernel.cell.gates * padded
    first = (count, kernel.batch, kernel.hidden)
    optional = [
        (kernel.resets_inside, "inside", (count, padded), "float32"),
        (kernel.has_peepholes, "peepholes", (count, 3, padded), "float32"),
        (kernel.has_first_h, "first_h", first, "float32"),
        (kernel.has_first_c, "first_c", first, "float32"),
        (kernel.has_lengths, "lengths", (kernel.batch,), "int32"),
    ]
    return (
        Argument("projected", (1, 1, kernel.steps * kernel.batch, columns), "float32"),
        Argument("recurrent", (kernel.weight_count,), "float32"),
        *(Argument(name, shape, dtype) for has, name, shape, dtype in optional if has),
        Argument.of_image("output", kernel.output.image),
    )


@dataclass(frozen=True, slots=True)
class _Steps:
    """One kernel while it is being emitted."""

    kernel: RecurrenceKernel
    buffers: dict[str, Buffer]

    @property
    def columns(self) -> int:
        """Vectors of hidden units that a block takes."""
        return min(self.kernel.vectors, -(-_LEAST_SUMS // (self.gates * self.rows)))

    @property
    def rows(self) -> int:
        """Sequences that a block takes: the blocks of a batch are of one size, and may overlap."""
        most = _REGISTERS[self.kernel.vector_bits] // self.gates
        return -(-self.kernel.batch // -(-self.kernel.batch // most))

    @property
    def gates(self) -> int:
        """Sums for each vector and sequence of a block."""
        return max(phase.gates for phase in self.kernel.cell.phases)

    def write(self) -> None:
        blocks = -(-self.kernel.batch // self.rows)
        for index in range(len(self.kernel.directions)):

            def block(number: Expr, index: int = index) -> None:
                first = T.min(number * self.rows, self.kernel.batch - self.rows)
                Net(self, index, first).run()

            parallel(self.kernel.threads, blocks, block)


@dataclass(frozen=True, slots=True)
class Net:
    """One direction over one block of sequences, of which `first` is the first."""

    shared: _Steps
    index: int
    first: Expr

    @property
    def kernel(self) -> RecurrenceKernel:
        return self.shared.kernel

    @property
    def rows(self) -> int:
        return self.shared.rows

    def run(self) -> None:
        """Start from the first states, take all steps, and write the last states."""
        kernel = self.kernel
        states = [self._memory(2)]  # What a step reads, and what it writes.
        states += [self._memory(1) for _ in range(kernel.cell.others)]
        for number, (state, name) in enumerate(zip(states, ("first_h", "first_c"), strict=False)):
            self._start(state, self.shared.buffers.get(name) if number < 2 else None)

        def step(number: Expr) -> None:
            is_reverse = kernel.directions[self.index].is_reverse
            time = kernel.steps - 1 - number if is_reverse else number
            self._step(states, number % 2, time)

        loop(0, kernel.steps, step)
        for name, half, state in (("h", kernel.steps % 2, states[0]), ("c", 0, states[-1])):
            if name in kernel.results:
                self._finish(name, state, half)

    def _memory(self, halves: int) -> Buffer:
        return scratch(max(halves * self.rows * self.kernel.padded, _LEAST_ALIGNED), "float32")

    def _start(self, state: Buffer, given: Buffer | None) -> None:
        lanes, padded = self.kernel.lanes, self.kernel.padded
        with T.serial(self.rows * self.kernel.vectors) as vector:
            zero = lanes.splat(0.0)
            T.buffer_store(state, zero, [lanes.index(vector * lanes.count)])
        if given is None:
            return
        for row in range(self.rows):

            def copy(offset: Expr, part: Lanes, row: int = row) -> None:
                value = given[self.index, self.first + row, part.index(offset)]
                T.buffer_store(state, value, [part.index(row * padded + offset)])

            for_each_vector(self.kernel.hidden, lanes.count, copy)

    def _finish(self, name: str, state: Buffer, half: int) -> None:
        kernel = self.kernel
        for row in range(self.rows):
            start = (half * self.rows + row) * kernel.padded

            def copy(offset: Expr, part: Lanes, row: int = row, start: int = start) -> None:
                to = self._place(name, row, 0) + offset
                value = state[part.index(start + offset)]
                T.buffer_store(self.shared.buffers["output"], value, [part.index(to)])

            for_each_vector(kernel.hidden, kernel.lanes.count, copy)

    def _step(self, states: list[Buffer], half: Expr, time: Expr) -> None:
        before = 0
        for phase in self.kernel.cell.phases:
            offset = self._weights_before + before * self.kernel.padded * self.kernel.hidden
            PhaseOfStep(self, phase, offset, states, half, time).run()
            before += phase.gates

    @property
    def _weights_before(self) -> int:
        return self.index * self.kernel.weight_count // len(self.kernel.directions)

    def projected(self, time: Expr, row: int) -> Expr:
        """The row of projected inputs of one sequence at one time."""
        return time * self.kernel.batch + self.first + row

    def _place(self, name: str, row: int, time: Expr) -> Expr:
        """The first element of a sequence's result, in all outputs as one line."""
        kernel, count = self.kernel, len(self.kernel.directions)
        position = kernel.results.index(name)
        before, sequence = sum(kernel.result_sizes[:position]), self.first + row
        line = (time * count + self.index) * kernel.batch + sequence
        return before + line * kernel.hidden

    def store(self, row: int, time: Expr, unit: Expr, value: Register, valid: int) -> None:
        """Write the state of one time where the model has it."""
        if "y" not in self.kernel.results:
            return
        to = self._place("y", row, time) + unit
        for offset, part in pieces(valid, self.kernel.lanes.count):
            piece = value.part(offset, part)
            T.buffer_store(self.shared.buffers["output"], piece, [part.index(to + offset)])
