"""Count what a convolution reads and writes on an array that keeps filter rows in its elements.

Eyeriss (Chen, Emer and Sze, ISCA 2016), with the freedoms that Timeloop's `eyeriss_like` design
gives it. Columns of the array compute neighbouring pixels; the elements of a column hold different
kernel columns and channels, and their sums add up on the way. Over time an element runs through
the kernel's rows, a few channels, and a few output channels for each pixel that passes:

    for tiles of the output                                     main memory
      for groups of output channels, groups of channels         weights are loaded
        for pixels of the tile                                  buffer
          for channels, kernel rows, output channels            element

The image and the output pass through the buffer, weights go straight to the elements. A sum that
is not complete when the channels change goes to the buffer and comes back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from gcompile.ir import Contraction
from gcompile.targets import Array, Target

_SUM_BYTES = 2


@dataclass(frozen=True, slots=True)
class Mapping:
    """How one convolution is laid over the array.

    Attributes:
        kernel_columns: Kernel columns side by side in one column of the array.
        channels_across: Input channels side by side in one column of the array.
        pixels_across: Neighbouring pixels of a row of the output, one per column of the array.
        outputs_across: Groups of output channels side by side where the pixels leave room.
        channels_held: Input channels an element runs through.
        outputs_held: Output channels an element sums at once.
        tile_rows: Rows of the output in one tile of the buffer.
        tile_columns: Groups of `pixels_across` in one tile of the buffer.
    """

    kernel_columns: int
    channels_across: int
    pixels_across: int
    outputs_across: int
    channels_held: int
    outputs_held: int
    tile_rows: int
    tile_columns: int

    @property
    def elements(self) -> int:
        """Elements that work."""
        column = self.kernel_columns * self.channels_across
        return column * self.pixels_across * self.outputs_across


@dataclass(frozen=True, slots=True)
class Accesses:
    """Numbers that are read and written at each place.

    Attributes:
        cycles: Cycles of the array, one multiply-accumulate per element and cycle.
        buffer_reads: Numbers the shared buffer gives: pixels, and sums that are not complete.
        buffer_writes: Numbers it takes.
        delivered: Numbers that travel over the network to or from elements.
    """

    macs: int
    cycles: int
    input_reads: float
    input_writes: float
    weight_reads: float
    weight_writes: float
    sum_reads: float
    sum_writes: float
    buffer_reads: float
    buffer_writes: float
    delivered: float
    dram_weights: float
    dram_inputs: float
    dram_outputs: float


def accesses(sizes: Contraction, mapping: Mapping) -> Accesses:
    """Count the accesses of one convolution with one group."""
    channel_groups = math.ceil(sizes.in_c / (mapping.channels_across * mapping.channels_held))
    output_groups = math.ceil(sizes.out_c / (mapping.outputs_across * mapping.outputs_held))
    kernel_groups = math.ceil(sizes.kernel_w / mapping.kernel_columns)
    sum_rounds = channel_groups * kernel_groups
    column_groups = math.ceil(sizes.out_w / mapping.pixels_across)
    tiles = sizes.batch * math.ceil(sizes.out_h / mapping.tile_rows)
    tiles *= math.ceil(column_groups / mapping.tile_columns)
    held = sizes.kernel_h * mapping.channels_held
    pixels = sizes.batch * sizes.out_h * column_groups
    rounds = output_groups * sum_rounds
    input_writes = held * pixels * rounds * mapping.elements
    weight_writes = held * mapping.outputs_held * tiles * rounds * mapping.elements
    outputs = sizes.m * sizes.out_c
    macs = sizes.m * sizes.out_c * sizes.k
    input_reads_of_buffer = input_writes / mapping.outputs_across
    dram_inputs = float(_tile_inputs(sizes, mapping) * tiles)
    return Accesses(
        macs=macs,
        cycles=pixels * held * mapping.outputs_held * rounds,
        input_reads=macs,
        input_writes=input_writes,
        weight_reads=macs,
        weight_writes=weight_writes,
        sum_reads=macs * (1 - 1 / held),
        sum_writes=macs,
        buffer_reads=input_reads_of_buffer + outputs * (sum_rounds - 1),
        buffer_writes=dram_inputs + outputs * sum_rounds,
        delivered=input_writes + weight_writes + outputs * (2 * sum_rounds - 1),
        dram_weights=float(sizes.weight_count * (tiles if rounds > 1 else 1)),
        dram_inputs=dram_inputs,
        dram_outputs=float(outputs),
    )


@lru_cache(maxsize=4096)
def choose_mapping(sizes: Contraction, target: Target) -> Mapping:
    """Return the mapping with the least energy, among those that fit the array and the buffer."""
    array = target.array
    assert array is not None
    fitting = [m for m in _mappings(sizes, array) if _fits_buffer(sizes, m, target)]
    if not fitting:
        fitting = [min(_mappings(sizes, array), key=lambda m: _buffer_bytes(sizes, m))]
    return min(fitting, key=lambda m: (_joules(accesses(sizes, m), target), -m.elements))


def _mappings(sizes: Contraction, array: Array) -> Iterator[Mapping]:
    """Yield the mappings that fit the elements: factors in powers of two, and the whole."""
    across = min(sizes.kernel_w, array.rows)
    most_channels = min(sizes.in_c, array.rows // across)
    pixels = min(sizes.out_w, array.columns)
    outputs_across = max(1, min(sizes.out_c, array.columns // pixels))
    numbers = {
        name: int(store.size_bytes / store.element_bytes) for name, store in array.stores.items()
    }
    column_groups = math.ceil(sizes.out_w / pixels)
    for channels, outputs in product(_counts(sizes.in_c), _counts(sizes.out_c)):
        held = sizes.kernel_h * channels
        if (
            held > max(numbers["inputs"], sizes.kernel_h)
            or held * outputs > max(numbers["weights"], held)
            or outputs > numbers["sums"]
        ):
            continue
        for rows, columns in product(_counts(sizes.out_h), _counts(column_groups)):
            yield Mapping(
                across, most_channels, pixels, outputs_across, channels, outputs, rows, columns
            )


def _counts(limit: int) -> list[int]:
    """Return 1, 2, 4, … and the limit; for small limits every divisor."""
    powers = {2**i for i in range(limit.bit_length()) if 2**i <= limit}
    return sorted({*powers, *(d for d in range(1, min(limit, 64) + 1) if limit % d == 0), limit})


def _tile_inputs(sizes: Contraction, mapping: Mapping) -> int:
    rows = min(mapping.tile_rows, sizes.out_h)
    columns = min(mapping.tile_columns * mapping.pixels_across, sizes.out_w)
    high = (rows - 1) * sizes.stride_h + (sizes.kernel_h - 1) * sizes.dilation_h + 1
    wide = (columns - 1) * sizes.stride_w + (sizes.kernel_w - 1) * sizes.dilation_w + 1
    return sizes.in_c * high * wide


def _buffer_bytes(sizes: Contraction, mapping: Mapping) -> float:
    pixels = mapping.tile_rows * mapping.tile_columns * mapping.pixels_across
    sums = pixels * mapping.outputs_held * mapping.outputs_across
    return _tile_inputs(sizes, mapping) + sums * _SUM_BYTES


def _fits_buffer(sizes: Contraction, mapping: Mapping, target: Target) -> bool:
    return _buffer_bytes(sizes, mapping) <= target.memories[0].size_bytes


def _joules(found: Accesses, target: Target) -> float:
    return sum(movement(found, target).values())


def movement(found: Accesses, target: Target) -> dict[str, float]:
    """Return the joules of every place: the stores of the elements, the network, the levels."""
    array = target.array
    assert array is not None
    buffer, dram = target.memories[0], target.memories[-1]
    stores = array.stores
    return {
        "inputs": found.input_reads * stores["inputs"].read_j
        + found.input_writes * stores["inputs"].write_j,
        "weights": found.weight_reads * stores["weights"].read_j
        + found.weight_writes * stores["weights"].write_j,
        "sums": found.sum_reads * stores["sums"].read_j
        + found.sum_writes * stores["sums"].write_j,
        "network": found.delivered * array.noc_j,
        buffer.name: found.buffer_reads * buffer.byte_j
        + found.buffer_writes * (buffer.write_byte_j or buffer.byte_j),
        dram.name: (found.dram_weights + found.dram_inputs) * dram.byte_j
        + found.dram_outputs * (dram.write_byte_j or dram.byte_j),
    }
