"""Statements of TVM's tensor IR as lines of text that is both CUDA C and C++."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import s_tir, tirx

from gcompile.backends.cuda.tensor_ir.expressions import Expressions, dtype_of
from gcompile.backends.cuda.tensor_ir.prelude import C_TYPES
from gcompile.errors import CompileError


@dataclass
class Statements:
    """Prints statements.

    Attributes:
        element: Prints the place of an element of a tensor.
    """

    expressions: Expressions
    element: Callable[[Any, Sequence[Any]], str]

    def __call__(self, statement: Any) -> list[str]:
        """Print a statement.

        Raises:
            CompileError: There is no text for a statement in it.
        """
        match statement:
            case None:
                return []
            case tirx.SeqStmt():
                return [line for part in statement.seq for line in self(part)]
            case tirx.BufferStore():
                place = self.element(statement.buffer, list(statement.indices))
                return [f"{place} = {self.expressions(statement.value)};"]
            case tirx.Bind():
                return [self._named(statement.var, statement.value)]
            case tirx.For():
                return self._for(statement)
            case tirx.IfThenElse():
                return self._if(statement)
            case tirx.While():
                condition = self.expressions(statement.condition)
                return [f"while ({condition}) {{", *self(statement.body), "}"]
            case tirx.AttrStmt():  # Hints for schedules.
                return self(statement.body)
            case s_tir.SBlockRealize():
                return self._block(statement)
            case tirx.Evaluate() if isinstance(statement.value, tirx.IntImm):
                return []
        raise CompileError(f"No CUDA text is known for {type(statement).__name__} in tensor IR.")

    def _named(self, variable: Any, value: Any) -> str:
        name = f"v{len(self.expressions.names)}"
        text = self.expressions(value)
        self.expressions.names[variable] = name
        return f"const {C_TYPES[dtype_of(value)]} {name} = {text};"

    def _for(self, loop: tirx.For) -> list[str]:
        name = f"i{len(self.expressions.names)}"
        start, extent = self.expressions(loop.min), self.expressions(loop.extent)
        self.expressions.names[loop.loop_var] = name
        header = f"for (int {name} = {start}; {name} < {start} + {extent}; ++{name}) {{"
        return [header, *self(loop.body), "}"]

    def _if(self, statement: tirx.IfThenElse) -> list[str]:
        lines = [f"if ({self.expressions(statement.condition)}) {{", *self(statement.then_case)]
        if statement.else_case is not None:
            lines += ["} else {", *self(statement.else_case)]
        return [*lines, "}"]

    def _block(self, realize: s_tir.SBlockRealize) -> list[str]:
        """A block without a schedule of its own runs as it is written."""
        block = realize.block
        if block.init is not None:
            raise CompileError(f"The reduction {block.name_hint} has loops of an unknown form.")
        for item, value in zip(block.iter_vars, realize.iter_values, strict=True):
            self.expressions.names[item.var] = self.expressions(value)
        body = self(block.body)
        if isinstance(realize.predicate, tirx.IntImm):
            return body
        return [f"if ({self.expressions(realize.predicate)}) {{", *body, "}"]
