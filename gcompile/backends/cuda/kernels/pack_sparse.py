"""Weights of which two in four are stored, and the bits that say which.

    kept(group) = the two elements that are not zero, in rising order; zeros fill up
    bits(group) = place of the first | place of the second << 2

The bits lie as lanes of `mma.sp` hold them. Source: PTX ISA 8.7, section 9.7.14.6.1, "Sparse
matrix storage", and NVIDIA/cutlass, tools/util/include/cutlass/util/host_reorder.h.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

GROUP, STAY = 4, 2
"""Elements of a group along the depth, and those of them that are stored."""

STAGE_BYTES = 128
"""Depth that the metadata of one stage cover."""

RUN = 16
"""Columns whose metadata lie together."""

_UNIT_BYTES = 16

Array = NDArray[Any]


def is_sparse(weights: Array) -> bool:
    """Whether each four elements along the depth, from the first on, have two zeros.

    Args:
        weights: (columns, depth), the depth a multiple of four.
    """
    groups = weights.reshape(len(weights), -1, GROUP)
    return bool(np.all(np.count_nonzero(groups, axis=2) <= STAY))


def sparse_pitch(depth: int, element_bytes: int) -> int:
    """Elements of a column as it is stored: half the depth, filled up to units of 16 bytes."""
    unit = _UNIT_BYTES // element_bytes
    return math.ceil(depth // GROUP * STAY / unit) * unit


def pack_sparse(weights: Array, stages: int, runs: int) -> tuple[Array, Array]:
    """Store the elements that are kept, and where they were.

    Args:
        weights: (columns, depth) that `is_sparse`, of one or two bytes.
        stages: Stages of 128 bytes of depth that kernels walk; those past the depth are zeros.
        runs: Runs of 16 columns that kernels have; those past the columns are zeros.

    Returns:
        (columns, `sparse_pitch`), and int32 (stages, runs of 16 columns, lanes, words).
    """
    columns, depth = weights.shape
    in_stage = STAGE_BYTES // weights.itemsize
    padded = np.zeros((runs * RUN, stages * in_stage // GROUP, GROUP), weights.dtype)
    padded[:columns, : depth // GROUP] = weights.reshape(columns, -1, GROUP)
    first = np.argsort(padded == 0, axis=2, kind="stable")[..., :STAY]
    place = np.sort(first, axis=2)
    kept = np.take_along_axis(padded, place, 2).reshape(len(padded), -1)
    stored = np.zeros((columns, sparse_pitch(depth, weights.itemsize)), weights.dtype)
    stored[:, : depth // STAY] = kept[:columns, : depth // STAY]
    bits = (place[..., 0] | place[..., 1] << 2).astype(np.uint64)
    return stored, _by_lanes(bits, stages, weights.itemsize)


def unpack_sparse(stored: Array, metadata: Array, depth: int) -> Array:
    """The dense weights (columns, depth) again, from the bytes that kernels read.

    Args:
        stored: (columns, pitch).
        metadata: As `pack_sparse` gives it.
        depth: Elements that take part.
    """
    columns = len(stored)
    bits = _by_columns(metadata, stored.itemsize)[:columns, : depth // GROUP]
    place = np.stack([bits & 3, bits >> 2], -1)
    dense = np.zeros((columns, depth // GROUP, GROUP), stored.dtype)
    kept = stored[:, : depth // STAY].reshape(columns, -1, STAY)
    np.put_along_axis(dense, place, kept, 2)
    return dense.reshape(columns, depth)


def _by_lanes(bits: Array, stages: int, element_bytes: int) -> Array:
    """Four bits of each group, (columns, groups), as words (stages, runs, lanes, words)."""
    joined = _split(bits, stages, element_bytes)
    words = np.zeros(joined.shape[:-1], np.uint64)
    for i in range(joined.shape[-1]):
        words |= joined[..., i] << np.uint64(4 * i)
    return words.astype(np.uint32).view(np.int32)


def _split(bits: Array, stages: int, element_bytes: int) -> Array:
    """The groups of each word, the lowest bits first: (stages, runs, lanes, words, eight)."""
    runs = len(bits) // RUN
    if element_bytes == 2:  # Lane 4g + 2s + c has four groups of row g, then of row g + 8.
        shaped = bits.reshape(runs, 2, 8, stages, 2, 2, 4)
        ordered = shaped.transpose(3, 0, 2, 4, 5, 1, 6)
        return ordered.reshape(stages, runs, 32, 1, 8)
    # Word w of lane 4g + 2c + h has eight groups of row g + 8h.
    shaped = bits.reshape(runs, 2, 8, stages, 2, 2, 8)
    return shaped.transpose(3, 0, 2, 5, 1, 4, 6).reshape(stages, runs, 32, 2, 8)


def _by_columns(metadata: Array, element_bytes: int) -> Array:
    """The reverse of `_by_lanes`: (columns, groups)."""
    stages, runs, _, _ = metadata.shape
    words = metadata.view(np.uint32)[..., None]
    groups = (words >> np.arange(0, 32, 4, dtype=np.uint32) & np.uint32(15)).astype(np.int64)
    if element_bytes == 2:
        shaped = groups.reshape(stages, runs, 8, 2, 2, 2, 4)
        ordered = shaped.transpose(1, 5, 2, 0, 3, 4, 6)
    else:
        shaped = groups.reshape(stages, runs, 8, 2, 2, 2, 8)
        ordered = shaped.transpose(1, 4, 2, 0, 5, 3, 6)
    return ordered.reshape(runs * RUN, -1)
