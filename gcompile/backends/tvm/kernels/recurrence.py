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

from gcompile.backends.tvm.kernels.cells import Activation, Cell, Phase, State, cell_of
from gcompile.backends.tvm.kernels.function import Argument, Code, loop, parallel, scratch
from gcompile.backends.tvm.kernels.lanes import Lanes, Register, bind, for_each_vector, pieces
from gcompile.backends.tvm.kernels.spec import Kernel

_FLOAT_BITS = 32
_LEAST_ALIGNED = 257
_REGISTERS = {512: 24, 256: 12, 128: 12}
"""Sums of one block: the other registers hold weights and what the cell computes."""
_LEAST_SUMS = 8
"""Sums that hide the latency of an addition."""


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
                _Net(self, index, first).run()

            parallel(self.kernel.threads, blocks, block)


@dataclass(frozen=True, slots=True)
class _Net:
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
            _Phase(self, phase, offset, states, half, time).run()
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


@dataclass(frozen=True, slots=True)
class _Phase:
    """One phase of a step: sums of its gates, block by block, and what the cell makes of them."""

    net: _Net
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
