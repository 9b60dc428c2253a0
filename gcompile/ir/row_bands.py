"""How many rows of each image of a chain of layers are computed at a time, and which are kept.

Depth first, a chain computes some rows of its last image in each pass, and of every image before
it just the rows that those need. An image whose readers look further down is ahead of them by its
lead, and the last rows that the next pass reads again are kept:

    rows(i) = stride(c) · rows(c)
    lead(i) = max (lead(c) - 1) · stride(c) - pad(c) + extent(c)
    kept(i) = max lead(i) - (lead(c) · stride(c) - pad(c))       over the readers c of image i

Before the passes the leads are computed, once; the last pass computes what is left. So no row is
computed twice. Accelerators and image compilers call this schedule depth first, or line buffers
(Mei et al., DeFiNES, HPCA 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gcompile.ir.contraction import Contraction

LEAST_PASSES = 2
"""The fewest passes that are a chain: a repeated one and the last."""


@dataclass(frozen=True, slots=True)
class RowWindow:
    """The rows of an operand that one row of a result reads.

    Attributes:
        extent: Rows from the first to the last, dilation included.
        pad: Rows by which the first window begins above the image.
    """

    stride: int = 1
    extent: int = 1
    pad: int = 0

    @classmethod
    def of(cls, sizes: Contraction) -> RowWindow:
        """The rows that a convolution or pool reads."""
        extent = (sizes.kernel_h - 1) * sizes.dilation_h + 1
        return cls(sizes.stride_h, extent, sizes.pad_top)

    def start(self, row: int) -> int:
        """The first row that `row` of the result reads; below zero where it is padding."""
        return row * self.stride - self.pad

    def stop(self, row: int) -> int:
        """The row after the last that rows of the result before `row` read."""
        return (row - 1) * self.stride - self.pad + self.extent

    def count(self, rows: int) -> int:
        """How many rows are read for consecutive rows of the result."""
        return (rows - 1) * self.stride + self.extent


@dataclass(frozen=True, slots=True)
class BandedLayer:
    """One image of a chain, and how what computes it reads those before it in the chain.

    Attributes:
        height: Its rows.
        reads: The index of each image of the chain that is read, and through which window.
        least: The fewest rows that can be computed at once.
    """

    height: int
    reads: tuple[tuple[int, RowWindow], ...] = ()
    least: int = 1


@dataclass(frozen=True, slots=True)
class Band:
    """The rows of one image that are in memory together, and when they are computed.

    Rows lie in a window of `capacity` rows: new ones from `base` on, those that were kept before
    them. Rows above the image and below it hold padding.

    Attributes:
        lead: Rows computed before the first pass.
        rows: Rows of each pass but the last.
        last: Rows of the last pass.
        first_of_last: Which row it begins with.
        kept: Rows that stay from one pass to the next.
        above: Rows of padding above the image that are read.
        below: Rows of padding below the image that are read.
    """

    lead: int
    rows: int
    last: int
    first_of_last: int
    kept: int
    above: int
    below: int

    @property
    def base(self) -> int:
        """Where in the window new rows begin."""
        return max(self.kept, self.above)

    @property
    def capacity(self) -> int:
        """Rows of the window."""
        return self.base + max(self.lead, self.rows, self.last + self.below)


@dataclass(frozen=True, slots=True)
class Bands:
    """The passes of a chain.

    Attributes:
        passes: How many there are, the last included.
        layers: One for each image; that of the last one has no window.
    """

    passes: int
    layers: tuple[Band, ...]


def bands_of(layers: Sequence[BandedLayer], rows: int) -> Bands | None:
    """Cut a chain into passes of `rows` rows of its last image.

    Args:
        layers: Its images in the order in which they are computed. All but the last are read by
            others of the chain alone.
        rows: Rows of the last image in each pass.

    Returns:
        None where readers of one image step differently, where less than two passes would be
        left, or where a layer would compute fewer rows at once than it can.
    """
    steps = _steps(layers, rows)
    if steps is None or any(r < layer.least for (r, _), layer in zip(steps, layers, strict=True)):
        return None
    for passes in range(-(-layers[-1].height // rows), LEAST_PASSES - 1, -1):
        found = _ended(layers, steps, passes)
        if found is not None:
            return Bands(passes, found)
    return None


def _readers(layers: Sequence[BandedLayer], index: int) -> list[tuple[int, RowWindow]]:
    return [(c, window) for c in range(index + 1, len(layers))
            for source, window in layers[c].reads if source == index]  # fmt: skip


def _steps(layers: Sequence[BandedLayer], rows: int) -> list[tuple[int, int]] | None:
    """(rows of a pass, lead) of every image."""
    steps = [(rows, 0)] * len(layers)
    for index in range(len(layers) - 2, -1, -1):
        readers = _readers(layers, index)
        wanted = {steps[c][0] * window.stride for c, window in readers}
        if len(wanted) != 1:
            return None
        lead = max(0, *(window.stop(steps[c][1]) for c, window in readers))
        steps[index] = (wanted.pop(), max(lead, layers[index].least) if lead else 0)
    return steps


def _ended(
    layers: Sequence[BandedLayer], steps: Sequence[tuple[int, int]], passes: int
) -> tuple[Band, ...] | None:
    """The bands where the last pass ends every image; None where one would be too short."""
    starts = [rows * (passes - 1) + lead for rows, lead in steps]
    stops = [layers[-1].height] * len(layers)
    bands: list[Band] = []
    for index in range(len(layers) - 1, -1, -1):
        layer, readers, (rows, lead) = layers[index], _readers(layers, index), steps[index]
        needed = [window.stop(stops[c]) for c, window in readers] or [layer.height]
        stops[index] = max(starts[index], min(layer.height, max(needed)))
        last = stops[index] - starts[index]
        if starts[index] > layer.height or 0 < last < layer.least:
            return None
        oldest = [window.start(steps[c][1]) for c, window in readers] or [lead]
        bands.append(
            Band(
                lead,
                rows,
                last,
                starts[index],
                kept=max(0, lead - min(oldest)),
                above=max([0, *(window.pad for _, window in readers)]),
                below=max(0, max(needed) - layer.height),
            )
        )
    return tuple(reversed(bands))
