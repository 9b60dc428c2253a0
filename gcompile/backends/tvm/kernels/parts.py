"""A kernel as one or several matrix products: the groups of a convolution, the heads of attention.

Each part reads its own slice of the input and of the weights, and writes its own slice of the
output. The units multiply parts; what the parts are is the kernel's business.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Buffer, Expr

from gcompile.backends.tvm.kernels.expression import evaluate
from gcompile.backends.tvm.kernels.function import Tensors
from gcompile.backends.tvm.kernels.image_access import Position, store
from gcompile.backends.tvm.kernels.lanes import Lanes, pieces
from gcompile.backends.tvm.kernels.pixels import Pixels
from gcompile.backends.tvm.kernels.spec import Kernel, Panel
from gcompile.backends.tvm.kernels.units import Unit
from gcompile.ir.tile import Tile


@dataclass(frozen=True, slots=True)
class Depth:
    """Where the depth of one row of the product lies: runs of contiguous elements.

    Attributes:
        run: Elements of one run.
        rows: How many rows of runs there are, and the elements from one to the next.
        columns: How many runs a row has, and the elements from one to the next.
    """

    run: int
    rows: tuple[int, int] = (1, 0)
    columns: tuple[int, int] = (1, 0)


def _same(position: Position) -> Position:
    return position


@dataclass(frozen=True, slots=True)
class Part:
    """One matrix product.

    Attributes:
        pixels: Its rows.
        depth: What each row reads.
        channels: Its columns.
        weights: Packed weights: (blocks of columns, steps, lanes · group).
        first_block: The first of the blocks that are this part's.
        origin: Elements of the input before this part's slice of a pixel.
        placed: Where in the output a row and column of this part are written.
        corrected: What integer sums at a row and column of this part become before the expression
            sees them.
        kept: Receives the real values at a row and column of this part, in place of the output.
    """

    pixels: Pixels
    depth: Depth
    channels: int
    weights: Buffer
    first_block: Expr = 0
    origin: Expr = 0
    placed: Callable[[Position], Position] = _same
    corrected: Callable[[Position, Lanes, Expr], Expr] | None = None
    kept: Callable[[Position, Lanes, Expr], None] | None = None


@dataclass(frozen=True, slots=True)
class Multiplication:
    """What all parts of a kernel share.

    Attributes:
        kernel: The expression, its operands and the output.
        tile: How parts are cut into blocks. `columns` may be more than a part has.
        unit: The unit it names.
        x: The input as one line of elements.
        tensors: The buffers of what all kernels share.
        panel: Blocks for the caches, if any.
        ahead: Steps of depth by which weights are asked for before they are needed; 0 leaves that
            to the hardware, which is late where few rows use each weight.
        asks_for_next: Whether weights come from memory, where those of the next block of channels
            are better asked for early (see `next_weights`).
    """

    kernel: Kernel
    tile: Tile
    unit: Unit
    x: Buffer
    tensors: Tensors
    panel: Panel | None = None
    ahead: int = 0
    asks_for_next: bool = False

    def write(
        self,
        part: Part,
        position: Position,
        vectors: tuple[int, int],
        accumulator: Callable[[int, Lanes], Expr],
    ) -> None:
        """Write a run of channels of one pixel, in vectors that end where the channels do.

        Args:
            part: The part whose sums they are.
            position: Its pixel and the first channel.
            vectors: How many channels, and the widest vector to use.
            accumulator: The accumulator from a channel (counted from the first) on, as it was
                summed; integers are converted here.
        """
        placed = part.placed(position)
        for offset, lanes in pieces(*vectors):
            total = accumulator(offset, lanes)
            if part.corrected is not None:
                total = part.corrected(position.moved(offset), lanes, total)
            if not str(total.ty.dtype).startswith("float32"):
                total = lanes.cast("float32", total)
            real = evaluate(self.kernel, self.tensors, placed.moved(offset), lanes, total)
            if part.kept is not None:
                part.kept(position.moved(offset), lanes, real)
            else:
                store(self.kernel.output, self.tensors.output, placed.moved(offset), real, lanes)
