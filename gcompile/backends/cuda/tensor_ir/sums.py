"""Sums whose terms one thread adds up, or the threads of a block together."""

from __future__ import annotations

from collections.abc import Sequence

from tvm import tirx

from gcompile.backends.cuda.tensor_ir.nest_text import NestText, indented
from gcompile.backends.cuda.tensor_ir.nests import Loop, Nest, count, loads_of, variables_of
from gcompile.backends.cuda.tensor_ir.prelude import C_TYPES

THREADS = 128
"""Threads of a block."""

_COMBINE = {tirx.Add: "{0} + {1}", tirx.Max: "larger({0}, {1})", tirx.Min: "smaller({0}, {1})"}


def by_threads(nest_text: NestText, reduction: Nest, elements: int) -> str:
    """A thread has an element, and all terms of its sum."""
    lines = nest_text.spatial_variables(f"blockIdx.x * {THREADS} + threadIdx.x")
    lines += _reduction(nest_text, reduction, [])
    lines += nest_text.result()
    inner = indented(lines, 6)
    guard = f"    if (blockIdx.x * {THREADS} + threadIdx.x < {elements}) {{\n{inner}    }}\n"
    return f"  PHASE {{\n{guard}  }}\n"


def by_blocks(nest_text: NestText, reduction: Nest) -> str:
    """Every thread adds up its own terms; then half of them add the others' to theirs."""
    tensor, combine = reduction.written[0], combining(reduction) or ""
    dtype = C_TYPES[str(tensor.dtype)]
    own = nest_text.spatial_variables("blockIdx.x")
    own += _reduction(nest_text, reduction, _strided(nest_text, reduction.reduced))
    own.append(f"partial[threadIdx.x] = {nest_text.values[tensor]};")
    text = f"  __shared__ {dtype} partial[{THREADS}];\n  PHASE {{\n{indented(own, 4)}  }}\n"
    added = combine.format("partial[threadIdx.x]", "partial[threadIdx.x + width]")
    text += (
        f"  for (int width = {THREADS // 2}; width; width /= 2) {{\n    __syncthreads();\n"
        f"    PHASE {{ if (threadIdx.x < width) partial[threadIdx.x] = {added}; }}\n  }}\n"
    )
    nest_text.values[tensor] = "partial[0]"
    last = nest_text.spatial_variables("blockIdx.x") + nest_text.result()
    guarded = "    if (threadIdx.x == 0) {\n" + indented(last, 6) + "    }\n"
    return f"{text}  __syncthreads();\n  PHASE {{\n{guarded}  }}\n"


def combining(reduction: Nest) -> str | None:
    """How two partial results become one, or None where that is not known."""
    store = reduction.body
    if not isinstance(store, tirx.BufferStore) or not isinstance(reduction.init, tirx.BufferStore):
        return None
    value = store.value
    pattern = _COMBINE.get(type(value))
    if pattern is None:
        return None
    own = [
        load.source.same_as(store.buffer)
        for side in (value.a, value.b)
        for load in (loads_of(side) if type(side).__name__ == "TensorLoad" else [])
    ]
    both = [load for load in loads_of(value) if load.source.same_as(store.buffer)]
    return pattern if any(own) and len(both) == 1 else None


def walks_rows(reduction: Nest) -> bool:
    """Whether neighbouring terms are neighbours in memory: then a block reads them together."""
    innermost = [
        variable
        for variable, value in reduction.bindings
        if any(found.same_as(reduction.reduced[-1].variable) for found in variables_of(value))
    ]
    return any(
        used.same_as(variable)
        for load in loads_of(reduction.body)
        if load.indices
        for used in variables_of(load.indices[-1])
        for variable in innermost
    )


def _reduction(nest_text: NestText, reduction: Nest, strided: list[str]) -> list[str]:
    """The loops that add up one result, in registers."""
    if not reduction.is_reduction:
        return []
    if reduction is nest_text.nest.before:
        nest_text.match_spatial(reduction)
    for number, tensor in enumerate(reduction.written):
        nest_text.values[tensor] = f"sum{number}"
    lines = [
        f"{C_TYPES[str(tensor.dtype)]} {nest_text.values[tensor]};" for tensor in reduction.written
    ]
    nest_text.bind(reduction)
    lines += nest_text.statements(reduction.init)
    opening, closing = [], []
    if strided:
        opening, closing = strided, ["}"]
    else:
        for loop in reduction.reduced:
            name = nest_text.loop_name(loop)
            opening.append(f"for (int {name} = 0; {name} < {loop.extent}; ++{name}) {{")
            closing.append("}")
    nest_text.bind(reduction)
    return [*lines, *opening, *nest_text.statements(reduction.body), *closing]


def _strided(nest_text: NestText, loops: Sequence[Loop]) -> list[str]:
    """One loop over all terms of a thread, from which the loops' own counters follow."""
    terms = count(loops)
    lines = [f"for (int term = threadIdx.x; term < {terms}; term += {THREADS}) {{"]
    rest = terms
    for loop in loops:
        rest //= loop.extent
        lines.append(f"const int {nest_text.loop_name(loop)} = term / {rest} % {loop.extent};")
    return lines
