"""A kernel for every nest of a tensor function.

One thread computes each element of the result, with all terms of its sum; or, where there are few
elements and many terms side by side, one block does, whose threads add up their own terms and then
each other's in shared memory.
"""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from gcompile.backends.cuda.kernel import Access, Argument, Kernel
from gcompile.backends.cuda.tensor_ir.nest_text import NestText, indented
from gcompile.backends.cuda.tensor_ir.nests import (
    Nest,
    count,
    loads_of,
    nests_of,
    static_shape,
)
from gcompile.backends.cuda.tensor_ir.prelude import C_TYPES, PRELUDE
from gcompile.backends.cuda.tensor_ir.products import (
    NestProduct,
    ProductTile,
    product_of,
    tile_for,
)
from gcompile.backends.cuda.tensor_ir.sums import (
    THREADS,
    by_blocks,
    by_threads,
    combining,
    walks_rows,
)
from gcompile.backends.cuda.tensor_ir.tiled_product import by_tiles

_FEW_ELEMENTS = 4096
"""With fewer results than this, threads that each compute one leave most of a device idle."""

_MANY_TERMS = 4 * THREADS

_RESIDENT_THREADS = 1024
"""Threads of tiles that a multiprocessor should hold: each then has 64 registers, and no spill."""


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
        self.text = NestText(nest)

    def kernel(self) -> TensorKernel:
        body, grid, threads = self._launch()
        tiled = self._tile() is not None
        arguments = tuple(self._argument(tensor) for tensor in self.text.tensors)
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
        return TensorKernel(kernel, tuple(self.text.tensors))

    def _launch(self) -> tuple[str, tuple[int, int, int], int]:
        """The body, the grid, and the threads of a block."""
        if self.nest.opaque is not None:
            return self._opaque(), (1, 1, 1), 1
        reduction = self.nest.before or self.nest
        elements, terms = count(self.nest.spatial), count(reduction.reduced)
        if tiled := self._tile():
            found, tile = tiled
            return by_tiles(self.text, found, tile), tile.grid(found), tile.threads
        is_few = elements < _FEW_ELEMENTS and terms >= _MANY_TERMS
        if is_few and combining(reduction) and walks_rows(reduction):
            return by_blocks(self.text, reduction), (elements, 1, 1), THREADS
        return by_threads(self.text, reduction, elements), (-(-elements // THREADS), 1, 1), THREADS

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
        size = math.prod(static_shape(tensor))
        return Argument(
            self.text.names[tensor], str(tensor.dtype), size, access, self._touched(tensor, size)
        )

    def _touched(self, tensor: Any, size: int) -> int | None:
        """As many elements as loads are executed, where those are fewer than there are."""
        if self.nest.opaque is not None or tensor in self.nest.written:
            return None
        nests = [nest for nest in (self.nest.before, self.nest) if nest is not None]
        loads = sum(
            count(nest.spatial)
            * count(nest.reduced)
            * sum(load.source.same_as(tensor) for load in loads_of(nest.body))
            for nest in nests
        )
        return loads if loads < size else None

    def _is_read_back(self, tensor: Any) -> bool:
        return self.nest.opaque is not None and any(
            load.source.same_as(tensor) for load in loads_of(self.nest.opaque)
        )

    def _opaque(self) -> str:
        lines = self.text.statements(self.nest.opaque)
        return "  PHASE {\n" + indented(lines, 4) + "  }\n"


def _parameter(argument: Argument) -> str:
    constant = "const " if argument.access is Access.READ else ""
    return f"{constant}{C_TYPES[argument.dtype]}* __restrict__ {argument.name}"
