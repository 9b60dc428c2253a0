"""Loops whose rounds only the data decides: functions that run one round, eight, 64 and so on.

A function of 8·n rounds runs that of n rounds eight times, and one that finds the loop ended
returns what it was given. So code and depth of calls grow with the logarithm of the rounds:

    up_to_1(state)   = round(state)                       if the loop goes on, else state
    up_to_8n(state)  = up_to_n(up_to_n(… up_to_n(state)))  if the loop goes on, else state
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import tvm
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.lowering.memory import Memory

_TIMES = 8
"""How often a function runs the one for fewer rounds."""

_MOST_LEVELS = 14
"""More rounds than any machine will run: 8 ** 14."""

_ENDLESS = np.iinfo(np.int64).max

_Write = Callable[[list[relax.Var]], relax.Expr]

Type = tuple[tuple[int, ...], str]
"""The shape and element type of a tensor."""


@dataclass(frozen=True)
class Rounds:
    """A function that runs a loop to its end.

    It takes the number of the next round, the number of rounds, whether to go on, the states and
    what the body reads from around it, and returns the number, whether to go on, and the states.

    Attributes:
        captured: What the body reads from around the loop.
    """

    function: tvm.ir.GlobalVar
    captured: Sequence[ir.Value]


def refusal_of_loop(node: ir.Node, kind: str) -> str | None:
    """Why a Loop cannot be compiled; None for other nodes."""
    if node.op_type != "Loop" or node.domain:
        return None
    if kind == "gpu":
        return "a GPU is given all its work at once, and this loop decides what is next"
    body = node.attributes["body"].as_graph()
    if len(body.outputs) > len(node.inputs) - 1:
        return "it collects a result of each round, and how many there are is computed"
    return None


def write_rounds(
    builder: relax.BlockBuilder,
    body: tvm.ir.GlobalVar,
    node: ir.Node,
    states: Sequence[Type],
    captured: Sequence[Type],
    values: Sequence[ir.Value],
) -> Rounds:
    """Write the functions of a loop whose body is a function already."""
    types = [((), "int64"), ((), "int64"), ((), "bool"), *states, *captured]
    writer = _Writer(builder, types, len(states))
    name = f"{body.name_hint}_rounds"
    function = writer.one_round(f"{name}_1", body)
    for level in range(1, _levels(node) + 1):
        function = writer.repeated(f"{name}_{_TIMES**level}", function)
    return Rounds(function, values)


def _levels(node: ir.Node) -> int:
    most = ir.constant_array(node.inputs[0])
    if most is None:
        return _MOST_LEVELS
    levels, count = 0, int(most.reshape(-1)[0])
    while _TIMES**levels < count and levels < _MOST_LEVELS:
        levels += 1
    return levels


@dataclass
class _Writer:
    builder: relax.BlockBuilder
    types: Sequence[Type]
    states: int
    same: tvm.ir.GlobalVar | None = None

    def one_round(self, name: str, body: tvm.ir.GlobalVar) -> tvm.ir.GlobalVar:
        """Run the body once, if the loop goes on."""

        def write(variables: list[relax.Var]) -> relax.Expr:
            number, limit, going, *rest = variables
            emit = self.builder.emit
            found = emit(relax.Call(body, [number, going, *rest]))
            again = emit(relax.op.reshape(emit(relax.TupleGetItem(found, 0)), ()))
            following = emit(relax.op.add(number, relax.const(1, "int64")))
            goes_on = emit(relax.op.logical_and(again, emit(relax.op.less(following, limit))))
            after = [emit(relax.TupleGetItem(found, 1 + i)) for i in range(self.states)]
            return relax.Tuple([following, goes_on, *after])

        return self._if_going(name, self._function(f"{name}_once", write))

    def repeated(self, name: str, fewer: tvm.ir.GlobalVar) -> tvm.ir.GlobalVar:
        """Run a function several times, if the loop goes on."""

        def write(variables: list[relax.Var]) -> relax.Expr:
            emit, limit = self.builder.emit, variables[1]
            captured, count = variables[3 + self.states :], 2 + self.states
            state = [variables[0], *variables[2 : 1 + count]]
            for _ in range(_TIMES):
                number, going, *states = state
                call = relax.Call(fewer, [number, limit, going, *states, *captured])
                found = emit(call)
                state = [emit(relax.TupleGetItem(found, i)) for i in range(count)]
            return relax.Tuple(state)

        return self._if_going(name, self._function(f"{name}_all", write))

    def _if_going(self, name: str, more: tvm.ir.GlobalVar) -> tvm.ir.GlobalVar:
        def stay(variables: list[relax.Var]) -> relax.Expr:
            number, _, going, *rest = variables
            return relax.Tuple([number, going, *rest[: self.states]])

        if self.same is None:
            self.same = self._function(f"{name}_ended", stay)
        functions = (more, self.same)

        def write(variables: list[relax.Var]) -> relax.Expr:
            calls = [relax.Call(function, variables) for function in functions]
            return self.builder.emit(relax.If(variables[2], *calls))

        return self._function(name, write)

    def _function(self, name: str, write: _Write) -> tvm.ir.GlobalVar:
        variables = [
            relax.Var(f"p{i}", relax.TensorType(shape, dtype))
            for i, (shape, dtype) in enumerate(self.types)
        ]
        with self.builder.function(name, variables):
            self.builder.emit_func_output(write(variables))
        return self.builder.get().get_global_var(name)


def call_loop(node: ir.Node, rounds: Rounds, memory: Memory) -> None:
    """Run the loop, and put what its states have become."""
    emit = memory.emission.emit
    limit, start = node.inputs[:2]
    most = relax.const(_ENDLESS, "int64") if limit is None else _single(memory, limit)
    goes_on = emit(relax.op.less(relax.const(0, "int64"), most))
    if start is not None:
        goes_on = emit(relax.op.logical_and(_single(memory, start), goes_on))
    states = [memory.plain(value) for value in node.inputs[2:] if value is not None]
    captured = [memory.plain(value) for value in rounds.captured]
    zero = relax.const(0, "int64")
    found = emit(relax.Call(rounds.function, [zero, most, goes_on, *states, *captured]))
    for index, value in enumerate(node.outputs):
        if value.name:
            memory.put_rows(value, emit(relax.TupleGetItem(found, 2 + index)))


def _single(memory: Memory, value: ir.Value) -> relax.Expr:
    """One number, without axes."""
    found = memory.plain(value)
    return memory.emission.emit(relax.op.reshape(found, ())) if ir.static_shape(value) else found
