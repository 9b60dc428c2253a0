"""A kernel for every nest of a tensor function.

One thread computes each element of the result, with all terms of its sum; or, where there are few
elements and many terms side by side, one block does, whose threads add up their own terms and then
each other's in shared memory.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.ir import Range

from gcompile.backends.cuda.kernel import Access, Argument, Kernel
from gcompile.backends.cuda.tensor_ir.expressions import Expressions
from gcompile.backends.cuda.tensor_ir.nests import (
    Loop,
    Nest,
    count,
    loads_of,
    nests_of,
    static_shape,
    variables_of,
)
from gcompile.backends.cuda.tensor_ir.prelude import C_TYPES, PRELUDE
from gcompile.backends.cuda.tensor_ir.products import (
    DEPTH,
    NestProduct,
    ProductTile,
    Side,
    product_of,
    tile_for,
)
from gcompile.backends.cuda.tensor_ir.statements import Statements
from gcompile.errors import CompileError

THREADS = 128
"""Threads of a block."""

_FEW_ELEMENTS = 4096
"""With fewer results than this, threads that each compute one leave most of a device idle."""

_MANY_TERMS = 4 * THREADS

_RESIDENT_THREADS = 1024
"""Threads of tiles that a multiprocessor should hold: each then has 64 registers, and no spill."""

_COMBINE = {tirx.Add: "{0} + {1}", tirx.Max: "larger({0}, {1})", tirx.Min: "smaller({0}, {1})"}


@dataclass(frozen=True)
class TensorKernel:
    """A kernel of a tensor function, and the tensor (a TVM variable) of each argument."""

    kernel: Kernel
    tensors: tuple[Any, ...]


def kernels_of(function: tirx.PrimFunc, title: str) -> list[TensorKernel]:
    """The kernels that compute a function, in order.

    Args:
        function: As TVM's operators are legalized, before any schedule.
        title: What their names begin with.

    Raises:
        CompileError: Something in the function has no CUDA text.
    """
    nests = [nest for nest in nests_of(function) if count(nest.spatial)]  # Others write nothing.
    return [_Writer(nest, title).kernel() for nest in nests]


class _Writer:
    """Writes the text of one kernel."""

    def __init__(self, nest: Nest, title: str) -> None:
        self.nest = nest
        self.title = re.sub(r"\W+", "_", title)[:60]
        read = [*(nest.before.read if nest.before else []), *nest.read]
        hidden = nest.before.written if nest.before else ()
        tensors = dict.fromkeys((*nest.written, *read))
        self.tensors = [tensor for tensor in tensors if tensor not in hidden]
        self.names = {tensor: f"t{index}" for index, tensor in enumerate(self.tensors)}
        self.expressions = Expressions(self._read)
        self.statements = Statements(self.expressions, self._element)
        self.values: dict[Any, str] = {}

    def kernel(self) -> TensorKernel:
        body, grid, threads = self._launch()
        tiled = self._tile() is not None
        arguments = tuple(self._argument(tensor) for tensor in self.tensors)
        parameters = ", ".join(map(_parameter, arguments))
        # The compiler may aim for more blocks at once than the sums of a tile leave registers.
        bounds = f"{threads}, {_RESIDENT_THREADS // threads}" if tiled else f"{threads}"
        opening = f"__launch_bounds__({bounds}) NAME({parameters})"
        text = f'extern "C" __global__ void {opening} {{\n{body}}}\n'
        digest = hashlib.sha256(f"{grid} {text}".encode()).hexdigest()[:16]
        name = f"{self.title}_{digest}"
        kernel = Kernel(
            name=name,
            source=PRELUDE + text.replace("NAME(", f"{name}(", 1),
            grid=grid,
            block=(threads, 1, 1),
            arguments=arguments,
            operations=self._operations(),
        )
        return TensorKernel(kernel, tuple(self.tensors))

    def _launch(self) -> tuple[str, tuple[int, int, int], int]:
        """The body, the grid, and the threads of a block."""
        if self.nest.opaque is not None:
            return self._opaque(), (1, 1, 1), 1
        reduction = self.nest.before or self.nest
        elements, terms = count(self.nest.spatial), count(reduction.reduced)
        if tiled := self._tile():
            found, tile = tiled
            return self._by_tiles(found, tile), tile.grid(found), tile.threads
        is_few = elements < _FEW_ELEMENTS and terms >= _MANY_TERMS
        if is_few and _combine(reduction) and _walks_rows(reduction):
            return self._by_blocks(reduction), (elements, 1, 1), THREADS
        return self._by_threads(reduction, elements), (-(-elements // THREADS), 1, 1), THREADS

    def _tile(self) -> tuple[NestProduct, ProductTile] | None:
        """The product that the nest is, and its tile, where tiles pay."""
        if self.nest.opaque is not None:
            return None
        found = product_of(self.nest.before or self.nest)
        tile = tile_for(found) if found is not None else None
        return (found, tile) if found is not None and tile is not None else None

    def _operations(self) -> int:
        """One for each element, or for each term of its sum; two for terms that are products."""
        reduction = self.nest.before or self.nest
        each = 2 if product_of(reduction) is not None else 1
        return each * count(self.nest.spatial) * count(reduction.reduced)

    def _argument(self, tensor: Any) -> Argument:
        access = Access.READ
        if tensor in self.nest.written:
            access = Access.UPDATE if self._is_read_back(tensor) else Access.WRITE
        return Argument(
            self.names[tensor], str(tensor.dtype), math.prod(static_shape(tensor)), access
        )

    def _is_read_back(self, tensor: Any) -> bool:
        return self.nest.opaque is not None and any(
            load.source.same_as(tensor) for load in loads_of(self.nest.opaque)
        )

    def _opaque(self) -> str:
        lines = self.statements(self.nest.opaque)
        return "  PHASE {\n" + _indented(lines, 4) + "  }\n"

    def _by_threads(self, reduction: Nest, elements: int) -> str:
        lines = self._spatial_variables(f"blockIdx.x * {THREADS} + threadIdx.x", self.nest)
        lines += self._reduction(reduction, [])
        lines += self._result()
        inner = _indented(lines, 6)
        guard = f"    if (blockIdx.x * {THREADS} + threadIdx.x < {elements}) {{\n{inner}    }}\n"
        return f"  PHASE {{\n{guard}  }}\n"

    def _by_blocks(self, reduction: Nest) -> str:
        """Every thread adds up its own terms; then half of them add the others' to theirs."""
        tensor, combine = reduction.written[0], _combine(reduction) or ""
        dtype = C_TYPES[str(tensor.dtype)]
        own = self._spatial_variables("blockIdx.x", self.nest)
        own += self._reduction(reduction, self._strided(reduction.reduced))
        own.append(f"partial[threadIdx.x] = {self.values[tensor]};")
        text = f"  __shared__ {dtype} partial[{THREADS}];\n  PHASE {{\n{_indented(own, 4)}  }}\n"
        added = combine.format("partial[threadIdx.x]", "partial[threadIdx.x + width]")
        text += (
            f"  for (int width = {THREADS // 2}; width; width /= 2) {{\n    __syncthreads();\n"
            f"    PHASE {{ if (threadIdx.x < width) partial[threadIdx.x] = {added}; }}\n  }}\n"
        )
        self.values[tensor] = "partial[0]"
        last = self._spatial_variables("blockIdx.x", self.nest) + self._result()
        guarded = "    if (threadIdx.x == 0) {\n" + _indented(last, 6) + "    }\n"
        return f"{text}  __syncthreads();\n  PHASE {{\n{guarded}  }}\n"

    def _by_tiles(self, product: NestProduct, tile: ProductTile) -> str:
        """Blocks keep both operands of their tile in shared memory, threads sums in registers."""
        reduction = product.nest
        tensor = reduction.written[0]
        sums = C_TYPES[str(tensor.dtype)]
        text = "".join(
            f"  __shared__ {sums} {name}[{DEPTH}][{width + 1}];\n"
            for name, width in (("left", tile.rows), ("right", tile.columns))
        )
        own = tile.own_rows * tile.own_columns
        text += f"  PRIVATE({sums}, sums, {own});\n"
        text += f"  PHASE {{ for (int i = 0; i < {own}; ++i) OWN(sums)[i] = 0; }}\n"
        text += f"  for (int first = 0; first < {product.depth}; first += {DEPTH}) {{\n"
        for side in (product.left, product.right):
            text += f"    PHASE {{\n{_indented(self._load_side(product, side, tile), 6)}    }}\n"
        text += "    __syncthreads();\n    PHASE {\n" + _indented(tile.multiply(sums), 6)
        text += "    }\n    __syncthreads();\n  }\n"
        self.values[tensor] = f"OWN(sums)[i * {tile.own_columns} + j]"
        lines = [
            f"for (int i = 0; i < {tile.own_rows}; ++i) {{",
            f"for (int j = 0; j < {tile.own_columns}; ++j) {{",
            f"const int row = {tile.row()}, column = {tile.column()};",
            f"if (row >= {product.rows} || column >= {product.columns}) continue;",
            *self._decode("row", product.left.loops),
            *self._decode("column", product.right.loops),
            *self._decode("(int)blockIdx.z", product.batch),
        ]
        self._bind(reduction)
        if reduction is self.nest.before:
            self._match_around(reduction)
        return text + "  PHASE {\n" + _indented([*lines, *self._result(), "}", "}"], 4) + "  }\n"

    def _load_side(self, product: NestProduct, side: Side, tile: ProductTile) -> list[str]:
        """Bring one operand's part of the tile into shared memory; what is outside is zero."""
        width = tile.rows if side is product.left else tile.columns
        block = "blockIdx.x" if side is product.left else "blockIdx.y"
        line, depth = (
            (f"at / {DEPTH}", f"at % {DEPTH}")
            if side.walks_depth
            else (f"at % {width}", f"at / {width}")
        )
        lines = [
            f"for (int at = threadIdx.x; at < {DEPTH * width}; at += {tile.threads}) {{",
            f"const int line = {block} * {width} + {line}, depth = first + {depth};",
            f"{side.name}[{depth}][{line}] = 0;",
            f"if (line < {count(side.loops)} && depth < {product.depth}) {{",
            *self._decode("line", side.loops),
            *self._decode("depth", product.nest.reduced),
            *self._decode("(int)blockIdx.z", product.batch),
        ]
        self._bind(product.nest)
        value = self.expressions(side.value)
        return [*lines, f"{side.name}[{depth}][{line}] = {value};", "}", "}"]

    def _decode(self, index: str, loops: Sequence[Loop]) -> list[str]:
        """The counters of loops that one number walks, the last fastest."""
        lines, rest = [], count(loops)
        for position, loop in enumerate(loops):
            rest //= loop.extent
            value = index if rest == 1 else f"{index} / {rest}"
            if loop.extent == 1:
                value = "0"
            elif position:
                value = f"{value} % {loop.extent}"
            lines.append(f"const int {self._loop_name(loop)} = {value};")
        return lines

    def _match_around(self, reduction: Nest) -> None:
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

    def _spatial_variables(self, index: str, nest: Nest) -> list[str]:
        lines = [f"const int index = {index};", *self._decode("index", nest.spatial)]
        self._bind(nest)
        return lines

    def _loop_name(self, loop: Loop) -> str:
        name = self.expressions.names.setdefault(loop.variable, f"i{len(self.expressions.names)}")
        self.expressions.analyzer.bind(loop.variable, Range(0, loop.extent), True)
        return name

    def _bind(self, nest: Nest) -> None:
        """Name the block's own variables, as far as the loops around them are named."""
        for variable, value in nest.bindings:
            if all(name in self.expressions.names for name in variables_of(value)):
                self.expressions.names[variable] = self.expressions(value)
                self.expressions.analyzer.bind(variable, value, True)

    def _reduction(self, reduction: Nest, strided: list[str]) -> list[str]:
        """The loops that add up one result, in registers."""
        if not reduction.is_reduction:
            return []
        if reduction is self.nest.before:
            self._match_spatial(reduction)
        for number, tensor in enumerate(reduction.written):
            self.values[tensor] = f"sum{number}"
        lines = [
            f"{C_TYPES[str(tensor.dtype)]} {self.values[tensor]};" for tensor in reduction.written
        ]
        self._bind(reduction)
        lines += self.statements(reduction.init)
        opening, closing = [], []
        if strided:
            opening, closing = strided, ["}"]
        else:
            for loop in reduction.reduced:
                name = self._loop_name(loop)
                opening.append(f"for (int {name} = 0; {name} < {loop.extent}; ++{name}) {{")
                closing.append("}")
        self._bind(reduction)
        return [*lines, *opening, *self.statements(reduction.body), *closing]

    def _strided(self, loops: Sequence[Loop]) -> list[str]:
        """One loop over all terms of a thread, from which the loops' own counters follow."""
        terms = count(loops)
        lines = [f"for (int term = threadIdx.x; term < {terms}; term += {THREADS}) {{"]
        rest = terms
        for loop in loops:
            rest //= loop.extent
            lines.append(f"const int {self._loop_name(loop)} = term / {rest} % {loop.extent};")
        return lines

    def _match_spatial(self, reduction: Nest) -> None:
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

    def _result(self) -> list[str]:
        if self.nest.is_reduction:
            self._bind(self.nest)
            lines: list[str] = []
            for statement in _stores(self.nest.body):
                value = self.values[statement.buffer]
                lines.append(f"{self._global(statement.buffer, statement.indices)} = {value};")
            return lines
        self._bind(self.nest)
        return self.statements(self.nest.body)

    def _read(self, tensor: Any, indices: Sequence[Any]) -> str:
        return self._element(tensor, indices)

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


def _parameter(argument: Argument) -> str:
    constant = "const " if argument.access is Access.READ else ""
    return f"{constant}{C_TYPES[argument.dtype]}* __restrict__ {argument.name}"


def _stores(statement: Any) -> list[tirx.BufferStore]:
    if isinstance(statement, tirx.SeqStmt):
        return [store for part in statement.seq for store in _stores(part)]
    return [statement] if isinstance(statement, tirx.BufferStore) else []


def _combine(reduction: Nest) -> str | None:
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


def _walks_rows(reduction: Nest) -> bool:
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


def _indented(lines: Sequence[str], depth: int) -> str:
    return "".join(f"{' ' * depth}{line}\n" for line in lines)
