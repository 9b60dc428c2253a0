"""How many bytes each level of the memory hierarchy sends towards the cores.

The outer loop of a kernel walks the blocks of one operand and streams the other past each. At each
level, what is used again before the cache has forgotten it costs nothing there:

    outer n: the weights' panel stays while the rows stream; the image is read once per panel,
             or once in all where it fits beside the panel
    outer m: the rows' panel stays while the weights stream; the weights are read once per panel,
             or once in all where they fit beside the panel

Steady state: inferences follow each other, so weights stay where the whole model fits, and an
activation stays where it fits twice (its consumer writes something of its own).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gcompile.energy.blocking import Blocking
from gcompile.energy.job import Batch, Job
from gcompile.ir import Contraction, Precision, Tile
from gcompile.targets import Memory, Target

LINE_BYTES = 64
"""A cache line."""

_WIDEST_STRIP = {512: 14, 256: 8, 128: 8}
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True)
class Operands:
    """The two operands of a contraction, in bytes, and the panels that its loops hold.

    Attributes:
        window_bytes: Rows of the image that the kernel's height spans.
        overlap: How often each row of the image is read where those rows do not stay.
        written_bytes: What one panel of columns adds to one row of the output.
    """

    image_bytes: float
    weight_bytes: float
    row_blocks: int
    column_blocks: int
    row_panel_bytes: float
    column_panel_bytes: float
    window_bytes: float
    overlap: float
    written_bytes: float = 0.0


def traffic(
    job: Job, tile: Tile, blocks: Blocking | None, target: Target, footprint_bytes: float
) -> dict[str, float]:
    """Return the bytes that leave each level towards the cores, of all threads together.

    Args:
        job: What the kernel does.
        tile: How it is cut, and over how many threads.
        blocks: The register blocks of the job's contraction; None when it has none.
        target: Gives the levels, innermost first.
        footprint_bytes: Bytes the whole model touches between two uses of the same weight.
    """
    once = sum(job.activation_bytes) + job.constant_bytes
    first = target.memories[0]
    unblocked = job.image_bytes + job.weight_bytes
    loaded = blocks.loaded_bytes if blocks else unblocked
    if blocks is not None and job.batch is not None:
        loaded = loaded * job.batch.pairs + job.batch.rights * blocks.weight_bytes
    if job.sliding is not None:
        loaded += _strip_loads(job, job.sliding, target)
    again = (job.steps - 1) * job.step_bytes
    sent = {first.name: once + loaded + again}
    for inner, outer in zip(target.memories, target.memories[1:], strict=False):
        sent[outer.name] = _missed(job, tile, blocks, inner, footprint_bytes)
        sent[outer.name] += again * (1 - resident_share(job.step_bytes, inner.size_bytes))
        if job.sliding is not None:
            private = tile.threads if inner.per_core else 1
            sent[outer.name] += _slid(job, job.sliding, target, inner.size_bytes, private)
    return sent


def resident_share(size_bytes: float, capacity_bytes: float) -> float:
    """Return the share of a thing of this size that a cache keeps until it is used again.

    All of what fits, none of what is twice as large: between them replacement that is not strictly
    oldest-first saves a part.
    """
    return min(1.0, max(0.0, 2.0 - size_bytes / capacity_bytes))


def _missed(
    job: Job, tile: Tile, blocks: Blocking | None, cache: Memory, footprint_bytes: float
) -> float:
    """Return the bytes that `cache` does not hold when they are asked for."""
    private = tile.threads if cache.per_core else 1
    all_bytes = cache.size_bytes * private
    weights_missed = 1 - resident_share(
        footprint_bytes, all_bytes if tile.split == "n" else cache.size_bytes
    )
    (_, image_within), *activations = job.activations
    missed = job.constant_bytes * weights_missed
    missed += sum(size * activation_missed(within, all_bytes) for size, within in activations)
    if blocks is not None and job.batch is not None:
        return missed + _missed_again(job, job.batch, blocks, tile, cache)
    image_missed = activation_missed(image_within, all_bytes)
    if blocks is None or job.contraction is None:
        return missed + job.image_bytes * image_missed + job.weight_bytes * weights_missed
    if tile.outer == "n":
        missed += _split_lines(job, job.contraction, blocks, all_bytes)
    share = _share_of_one(operands(job, job.contraction, blocks), tile, private)
    image_passes, weight_passes = _passes(share, tile, cache.size_bytes)
    missed += private * share.image_bytes * (image_passes - 1 + image_missed)
    missed += private * share.weight_bytes * (weight_passes - 1 + weights_missed)
    return missed


def _missed_again(job: Job, batch: Batch, blocks: Blocking, tile: Tile, cache: Memory) -> float:
    """Return what a batch's products read more often than once and `cache` does not hold.

    A right operand in the order of the unit is memory that is written and then read.
    """
    image_bytes = batch.contraction.m * batch.contraction.k * job.precision.bits / 8
    one = replace(operands(job, batch.contraction, blocks), image_bytes=image_bytes)
    if cache.per_core and batch.rights < tile.threads:
        one = _share_of_one(one, tile, tile.threads)
    image_passes, weight_passes = _passes(one, tile, cache.size_bytes)
    packed = weight_passes - 1 + activation_missed(one.weight_bytes, cache.size_bytes)
    return batch.pairs * (one.image_bytes * (image_passes - 1) + one.weight_bytes * packed)


def activation_missed(size_bytes: float, capacity_bytes: float) -> float:
    """Return the share of an activation that its consumer does not find where it was written."""
    return 1 - resident_share(2 * size_bytes, capacity_bytes)


def operands(job: Job, contraction: Contraction, blocks: Blocking) -> Operands:
    """Measure the operands and the panels of one block of each."""
    element = job.precision.bits / 8
    row_bytes = contraction.in_w * contraction.in_c * element
    depth_bytes = contraction.k * element
    rows = contraction.m / blocks.row_blocks
    window = min(contraction.kernel_h * contraction.dilation_h, contraction.in_h) * row_bytes
    return Operands(
        image_bytes=job.image_bytes,
        weight_bytes=blocks.weight_bytes * job.weight_share,
        row_blocks=blocks.row_blocks,
        column_blocks=blocks.column_blocks,
        row_panel_bytes=min(rows * depth_bytes, window + row_bytes),
        column_panel_bytes=blocks.weight_bytes / blocks.column_blocks,
        window_bytes=window,
        overlap=max(1.0, contraction.kernel_h / contraction.stride_h),
        written_bytes=contraction.out_w
        * _written_element(job, contraction)
        * contraction.n
        / blocks.column_blocks,
    )


def _written_element(job: Job, contraction: Contraction) -> float:
    """Bytes of one output of the product."""
    written = job.activation_bytes[-1] if job.activation_bytes else 0
    return written / (contraction.m * contraction.n)


def _split_lines(
    job: Job, contraction: Contraction, blocks: Blocking, capacity_bytes: float
) -> float:
    """Bytes that come again because a panel of columns ends in the middle of a cache line.

    The next panel returns to that line when the whole output has passed.
    """
    element = _written_element(job, contraction)
    pixel = contraction.n * element
    panel = blocks.panel_columns * element
    if not 0 < panel < pixel:
        return 0.0
    starts = range(math.ceil(pixel / panel))
    touched = sum(
        math.ceil(min((i + 1) * panel, pixel) / LINE_BYTES) - i * panel // LINE_BYTES
        for i in starts
    )
    again = max(0.0, touched * LINE_BYTES / (math.ceil(pixel / LINE_BYTES) * LINE_BYTES) - 1)
    return sum(
        size * again * (1 - resident_share(size + job.image_bytes, capacity_bytes))
        for size in job.activation_bytes
    )


def _share_of_one(whole: Operands, tile: Tile, private: int) -> Operands:
    """Return what one cache sees: its own thread's share where each core has one."""
    if private == 1:
        return whole
    rows, columns = (private, 1) if tile.split == "m" else (1, private)
    return Operands(
        image_bytes=whole.image_bytes / rows,
        weight_bytes=whole.weight_bytes / columns,
        row_blocks=max(1, whole.row_blocks // rows),
        column_blocks=max(1, whole.column_blocks // columns),
        row_panel_bytes=whole.row_panel_bytes,
        column_panel_bytes=whole.column_panel_bytes,
        window_bytes=whole.window_bytes,
        overlap=whole.overlap,
        written_bytes=whole.written_bytes,
    )


def _passes(share: Operands, tile: Tile, capacity_bytes: float) -> tuple[float, float]:
    """Return how often a cache of this size asks for the image and for the weights."""
    panels_fit = share.row_panel_bytes + share.column_panel_bytes <= capacity_bytes
    if tile.outer == "n":
        image_stays = share.image_bytes + share.column_panel_bytes <= capacity_bytes
        image_walks = 1 if image_stays else share.column_blocks
        weight_passes = 1 if panels_fit else share.row_blocks
    else:
        weights_stay = share.weight_bytes + share.row_panel_bytes <= capacity_bytes
        image_walks = 1 if panels_fit else share.column_blocks
        weight_passes = 1 if weights_stay else share.row_blocks
    # Before a row is read again, the window, the panel and a row of the output have passed.
    passed = share.window_bytes + share.column_panel_bytes + share.written_bytes
    again = (share.overlap - 1) * (1 - resident_share(passed, capacity_bytes))
    return image_walks * (1 + again), weight_passes


def _strip_width(sizes: Contraction, target: Target) -> int:
    """Neighbouring outputs that a depthwise kernel computes at once, as its emitter has it."""
    widest = _WIDEST_STRIP.get(target.unit_for(Precision.FP32, dense=False).vector_bits, 8)
    widest = max(1, min(widest, sizes.out_w))
    divisor = max(width for width in range(1, widest + 1) if sizes.out_w % width == 0)
    return divisor if 2 * divisor > widest else widest


def _strip_loads(job: Job, sizes: Contraction, target: Target) -> float:
    """Bytes of register loads beyond one of each value: windows overlap, weights repeat."""
    width = _strip_width(sizes, target)
    columns = (width - 1) * sizes.stride_w + sizes.kernel_w
    strips = sizes.batch * sizes.out_h * math.ceil(sizes.out_w / width)
    values = strips * sizes.out_c * sizes.kernel_h * columns * job.precision.bits / 8
    weights = strips * sizes.out_c * sizes.kernel_h * sizes.kernel_w * width * _FLOAT_BYTES
    return max(0.0, values - job.sliding_bytes) + weights


def _slid(
    job: Job, sizes: Contraction, target: Target, capacity_bytes: float, private: int
) -> float:
    """Bytes that a window sliding over the image fetches again.

    A strip of outputs takes all channels. Where its rows and the weights stay until the next
    strip, neighbouring strips share columns; where the rows of a whole window stay, neighbouring
    rows of the output share rows.
    """
    width = _strip_width(sizes, target)
    depth = sizes.in_c * job.precision.bits / 8
    columns = (width - 1) * sizes.stride_w + sizes.kernel_w
    weights = sizes.out_c * sizes.kernel_h * sizes.kernel_w * _FLOAT_BYTES
    written = width * sizes.out_c * job.precision.bits / 8
    strip = sizes.kernel_h * columns * depth + weights + written
    strip_gone = 1 - resident_share(strip, capacity_bytes)
    window = sizes.kernel_h * sizes.dilation_h * sizes.in_w * depth
    window_gone = 1 - resident_share(window + weights + sizes.out_w * written / width,
                                     capacity_bytes)  # fmt: skip
    rows = 1 + (max(1.0, sizes.kernel_h / sizes.stride_h) - 1) * window_gone
    shared = max(1.0, columns / (width * sizes.stride_w))
    walks = rows * (1 + (shared - 1) * strip_gone)
    strips = sizes.batch * sizes.out_h * math.ceil(sizes.out_w / width)
    return job.sliding_bytes * (walks - 1) + (strips - private) * weights * strip_gone
