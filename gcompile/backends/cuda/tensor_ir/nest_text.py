"""What is named in the text of one nest: its tensors, the counters of its loops, and its sums."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import tirx
from tvm.ir import Range

from gcompile.backends.cuda.tensor_ir.expressions import Expressions
from gcompile.backends.cuda.tensor_ir.nests import (
    Loop,
    Nest,
    count,
    loads_of,
    static_shape,
    variables_of,
)
from gcompile.backends.cuda.tensor_ir.statements import Statements
from gcompile.errors import CompileError


class NestText:
    """The names of one nest.

    Attributes:
        tensors: The arguments of the kernel.
        names: What each is called.
        values: Tensors that live within the kernel, as the text of their element.
    """

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        read = [*(nest.before.read if nest.before else []), *nest.read]
        hidden = nest.before.written if nest.before else ()
        tensors = dict.fromkeys((*nest.written, *read))
        self.tensors = [tensor for tensor in tensors if tensor not in hidden]
        self.names = {tensor: f"t{index}" for index, tensor in enumerate(self.tensors)}
        self.expressions = Expressions(self._element)
        self.statements = Statements(self.expressions, self._element)
        self.values: dict[Any, str] = {}

    def spatial_variables(self, index: str) -> list[str]:
        """The counters of the loops around the nest, all from one number."""
        lines = [f"const int index = {index};", *self.decode("index", self.nest.spatial)]
        self.bind(self.nest)
        return lines

    def decode(self, index: str, loops: Sequence[Loop]) -> list[str]:
        """The counters of loops that one number walks, the last fastest."""
        lines, rest = [], count(loops)
        for position, loop in enumerate(loops):
            rest //= loop.extent
            value = index if rest == 1 else f"{index} / {rest}"
            if loop.extent == 1:
                value = "0"
            elif position:
                value = f"{value} % {loop.extent}"
            lines.append(f"const int {self.loop_name(loop)} = {value};")
        return lines

    def loop_name(self, loop: Loop) -> str:
        """What its counter is called."""
        name = self.expressions.names.setdefault(loop.variable, f"i{len(self.expressions.names)}")
        self.expressions.analyzer.bind(loop.variable, Range(0, loop.extent), True)
        return name

    def bind(self, nest: Nest) -> None:
        """Name the block's own variables, as far as the loops around them are named."""
        for variable, value in nest.bindings:
            if all(name in self.expressions.names for name in variables_of(value)):
                self.expressions.names[variable] = self.expressions(value)
                self.expressions.analyzer.bind(variable, value, True)

    def match_around(self, reduction: Nest) -> None:
        """Let the nest around a reduction be at the element that the reduction computes."""
        (tensor,) = reduction.written
        load = next(found for found in loads_of(self.nest.body) if found.source.same_as(tensor))
        known = {
            index: place
            for index, place in zip(load.indices, reduction.body.indices, strict=True)
            if isinstance(index, tirx.Var)
        }
        for variable, value in self.nest.bindings:
            place = known.get(variable)
            text = self.expressions(place) if place is not None else "0"
            self.expressions.names[variable] = text
            if isinstance(value, tirx.Var):
                self.expressions.names[value] = text

    def match_spatial(self, reduction: Nest) -> None:
        """Let the reduction compute the element that the nest around it is at."""
        (tensor,) = reduction.written
        load = next(found for found in loads_of(self.nest.body) if found.source.same_as(tensor))
        stores = reduction.body
        for index, place in zip(load.indices, stores.indices, strict=True):
            if isinstance(place, tirx.Var):
                self.expressions.names[place] = self.expressions(index)
                self.expressions.analyzer.bind(place, index, True)
        for variable, value in reduction.bindings:
            if isinstance(value, tirx.Var) and variable in self.expressions.names:
                self.expressions.names.setdefault(value, self.expressions.names[variable])

    def result(self) -> list[str]:
        """Store what was summed, or run the nest's own statements."""
        if self.nest.is_reduction:
            self.bind(self.nest)
            lines: list[str] = []
            for statement in _stores(self.nest.body):
                value = self.values[statement.buffer]
                lines.append(f"{self._global(statement.buffer, statement.indices)} = {value};")
            return lines
        self.bind(self.nest)
        return self.statements(self.nest.body)

    def _element(self, tensor: Any, indices: Sequence[Any]) -> str:
        if tensor in self.values:
            return self.values[tensor]
        return self._global(tensor, indices)

    def _global(self, tensor: Any, indices: Sequence[Any]) -> str:
        if tensor not in self.names:
            raise CompileError(f"The tensor {tensor.name} lives within a kernel.")
        terms, stride = [], 1
        for index, size in zip(
            reversed(list(indices)), reversed(static_shape(tensor)), strict=True
        ):
            text = self.expressions(index)
            if text != "0":
                terms.append(text if stride == 1 else f"{text} * {stride}")
            stride *= size
        return f"{self.names[tensor]}[{' + '.join(reversed(terms)) or '0'}]"


def _stores(statement: Any) -> list[tirx.BufferStore]:
    if isinstance(statement, tirx.SeqStmt):
        return [store for part in statement.seq for store in _stores(part)]
    return [statement] if isinstance(statement, tirx.BufferStore) else []


def indented(lines: Sequence[str], depth: int) -> str:
    """Lines as text, so many spaces deep."""
    return "".join(f"{' ' * depth}{line}\n" for line in lines)
