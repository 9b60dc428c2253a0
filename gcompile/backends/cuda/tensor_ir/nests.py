"""The loop nests of a tensor function: what each computes, for every element of its result.

Cheap values are computed where they are used (`compute_inline`), so what remains are sums, what
several others read, and the results. A nest that only changes the result of a reduction element by
element is computed with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir.dlight.analysis import normalize_prim_func

from gcompile.backends.tvm.schedule import inline_cheap_blocks
from gcompile.errors import CompileError


@dataclass(frozen=True)
class Loop:
    """A loop from zero."""

    variable: Any
    extent: int


@dataclass(frozen=True)
class Nest:
    """One block of a function in its loops.

    Attributes:
        spatial: Loops whose iterations are independent.
        reduced: Loops whose iterations add to one result.
        bindings: The value of each of the block's own variables, in terms of loop variables.
        body: What an iteration does; None where the nest is `opaque`.
        init: What precedes the first reduced iteration; None without one.
        written: The tensors it writes.
        opaque: A statement whose iterations depend on each other in ways that are not known.
        before: The reduction whose result this nest changes as it is written, if any.
    """

    spatial: tuple[Loop, ...]
    reduced: tuple[Loop, ...]
    bindings: tuple[tuple[Any, Any], ...]
    body: Any
    init: Any
    written: tuple[Any, ...]
    opaque: Any = None
    before: Nest | None = None

    @property
    def is_reduction(self) -> bool:
        """Whether it adds up terms; where there is one term only, no loop over them is left."""
        return self.init is not None

    @property
    def read(self) -> list[Any]:
        """The tensors that are read, in order of first use."""
        found: dict[Any, None] = {}
        for statement in (self.body, self.init, self.opaque):
            if statement is not None:
                found.update(dict.fromkeys(load.source for load in loads_of(statement)))
        return [tensor for tensor in found if tensor not in self.written]


def nests_of(function: tirx.PrimFunc) -> list[Nest]:
    """The nests that compute a function, in order.

    Raises:
        CompileError: The function is no sequence of loop nests.
    """
    body = _inlined(function).body
    if isinstance(body, s_tir.SBlockRealize):
        body = body.block.body
    statements = body.seq if isinstance(body, tirx.SeqStmt) else [body]
    return _merged([_nest(statement) for statement in statements], set(function.params))


def _inlined(function: tirx.PrimFunc) -> tirx.PrimFunc:
    schedule = s_tir.Schedule(function)
    blocks = normalize_prim_func(schedule)
    if blocks is None:
        return function
    inline_cheap_blocks(schedule, blocks)
    return schedule.mod["main"]


def _nest(statement: Any) -> Nest:
    loops: list[Loop] = []
    inner = statement
    while isinstance(inner, tirx.For):
        if not isinstance(inner.extent, tirx.IntImm) or int(inner.min) != 0:
            return _opaque(statement)
        loops.append(Loop(inner.loop_var, int(inner.extent)))
        inner = inner.body
    if not isinstance(inner, s_tir.SBlockRealize):
        return _opaque(statement)
    block = inner.block
    kinds = {item.iter_type for item in block.iter_vars}
    is_plain = isinstance(block.body, (tirx.BufferStore, tirx.SeqStmt))
    if kinds - {tirx.IterVar.DataPar, tirx.IterVar.CommReduce} or not is_plain:
        return _opaque(statement)
    if not (isinstance(inner.predicate, tirx.IntImm) and int(inner.predicate)):
        return _opaque(statement)
    if block.alloc_buffers or block.match_buffers or (not block.iter_vars and loops):
        return _opaque(statement)
    reduced = {
        variable
        for item, value in zip(block.iter_vars, inner.iter_values, strict=True)
        if item.iter_type == tirx.IterVar.CommReduce
        for variable in variables_of(value)
    }
    bindings = [
        (item.var, value) for item, value in zip(block.iter_vars, inner.iter_values, strict=True)
    ]
    return Nest(
        spatial=tuple(loop for loop in loops if loop.variable not in reduced),
        reduced=tuple(loop for loop in loops if loop.variable in reduced),
        bindings=tuple(bindings),
        body=block.body,
        init=block.init,
        written=_written(block.body),
    )


def _opaque(statement: Any) -> Nest:
    return Nest((), (), (), None, None, _written(statement), statement)


def _written(statement: Any) -> tuple[Any, ...]:
    found: dict[Any, None] = {}
    tvm_ffi.structural_walk(
        statement, (tirx.BufferStore, lambda store: found.setdefault(store.buffer))
    )
    return tuple(found)


def _merged(nests: Sequence[Nest], kept: set[Any]) -> list[Nest]:
    """Compute with a reduction what only its own elements are needed for.

    `kept` are tensors that others than these nests read.
    """
    merged: list[Nest] = []
    for index, nest in enumerate(nests):
        others = [*nests[:index], *nests[index + 1 :]]
        before = merged[-1] if merged else None
        may_vanish = before is not None and not kept & set(before.written)
        if before is not None and may_vanish and _follows(nest, before, others):
            merged[-1] = replace(nest, before=before)
        else:
            merged.append(nest)
    return merged


def _follows(nest: Nest, before: Nest, others: Sequence[Nest]) -> bool:
    """Whether a nest reads each element of a reduction once, and no other nest reads any."""
    if not before.is_reduction or before.before is not None or len(before.written) != 1:
        return False
    if nest.is_reduction or nest.opaque is not None:
        return False
    if count(before.spatial) != count(nest.spatial):
        return False
    (tensor,) = before.written
    if any(tensor in other.read for other in others):
        return False
    indices = [load.indices for load in loads_of(nest.body) if load.source.same_as(tensor)]
    own = [variable for variable, _ in nest.bindings]
    return bool(indices) and all(_are_exactly(found, own) for found in indices)


def _are_exactly(indices: Sequence[Any], variables: Sequence[Any]) -> bool:
    """Whether an element is found at the variables of the nest themselves, but for ones."""
    found = [index for index in indices if not isinstance(index, tirx.IntImm)]
    places = [
        next((i for i, v in enumerate(variables) if isinstance(f, tirx.Var) and f.same_as(v)), -1)
        for f in found
    ]
    return -1 not in places and len(set(places)) == len(places)


def count(loops: Sequence[Loop]) -> int:
    """Iterations of nested loops."""
    return math.prod(loop.extent for loop in loops)


def loads_of(node: Any) -> list[Any]:
    """Every reading of a tensor within a statement or an expression."""
    found: list[Any] = []
    tvm_ffi.structural_walk(node, (tvm.ir.TensorLoad, found.append))
    return found


def variables_of(expression: Any) -> list[Any]:
    """Every variable within an expression."""
    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (tirx.Var, found.append))
    return found


def static_shape(tensor: Any) -> tuple[int, ...]:
    """The shape of a tensor.

    Raises:
        CompileError: It is not known.
    """
    if not all(isinstance(size, tirx.IntImm) for size in tensor.shape):
        raise CompileError(f"The tensor {tensor.name} has no static shape; bind it with --shape.")
    return tuple(int(size) for size in tensor.shape)
