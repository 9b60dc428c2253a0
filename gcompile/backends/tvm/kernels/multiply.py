"""Multiplication of parts on whichever unit the tile names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from gcompile.backends.tvm.kernels.amx import TileProduct, configure, layout_of
from gcompile.backends.tvm.kernels.amx_panels import TilePanels
from gcompile.backends.tvm.kernels.amx_tiles import Issue
from gcompile.backends.tvm.kernels.dot import dot_of
from gcompile.backends.tvm.kernels.few_bits import Reader
from gcompile.backends.tvm.kernels.function import HERE, llvm_functions
from gcompile.backends.tvm.kernels.parts import Multiplication, Part
from gcompile.backends.tvm.kernels.units import Unit
from gcompile.backends.tvm.kernels.vector_panels import VectorPanels
from gcompile.backends.tvm.kernels.vector_product import VectorProduct

Multiply = Callable[..., None]
"""Emit a part: `multiply(part, task, threads)` a task's share of it, `multiply(part)` all."""


def unit_functions(unit: Unit) -> AbstractContextManager[None]:
    """Statements that multiply on a unit stand inside this."""
    return llvm_functions("" if unit.is_tiled else dot_of(unit).llvm + HERE)


@contextmanager
def multiplying(
    shared: Multiplication, shape: Part, issue: Issue, reader: Reader | None = None
) -> Iterator[Multiply]:
    """Make a task ready to multiply parts of the shape of the one given.

    `reader` reads weights that are stored in few bits; they are multiplied panel by panel.
    """
    is_one_run = shape.depth.rows[0] * shape.depth.columns[0] == 1
    panel = shared.panel if is_one_run else None
    if not shared.unit.is_tiled:
        if panel is None:
            yield VectorProduct.of(shared, shape).multiply
        else:
            yield VectorPanels.of(shared, shape, panel, reader).multiply
    elif panel is None:
        product = TileProduct.of(shared, shape, issue)
        yield product.multiply
        product.release()
    else:
        panels = TilePanels.of(shared, shape, issue, panel, reader)
        yield panels.multiply
        panels.product.release()


@contextmanager
def multiplying_in_turn(
    first: tuple[Multiplication, Part], second: tuple[Multiplication, Part], issue: Issue
) -> Iterator[tuple[Multiply, Multiply]]:
    """Make a task ready to multiply parts of two shapes, now of the one and now of the other.

    Tile registers are configured once for both, whose pixels must be equally many.
    """
    if not first[0].unit.is_tiled:
        yield VectorProduct.of(*first).multiply, VectorProduct.of(*second).multiply
        return
    layout = layout_of(first[0], [first[1], second[1]])
    configure(layout, issue)
    one, other = (TileProduct.of(*product, issue, layout=layout) for product in (first, second))
    yield one.multiply, other.multiply
    one.release()
