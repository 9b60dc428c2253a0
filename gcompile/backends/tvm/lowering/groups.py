"""Convolutions of several groups: which kernel does them, and how it takes their weights."""

from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.kernels.units import Unit
from gcompile.backends.tvm.lowering.weights import Array, pad_to

_MOST_TAPS = 300
"""Products of one output beyond which groups do not share vectors: code is emitted for each."""

_EXACT = 2**24 // (255 * 128)
"""Products of two bytes that float32 adds up exactly."""


def is_narrow(shape: ir.Contraction, unit: Unit, dtype: str) -> bool:
    """Say whether several groups fit one vector, and their inputs one too.

    Args:
        shape: A convolution of several groups, without channels that only pad.
        unit: The unit that would multiply wide groups.
        dtype: The type of the input. Bytes must be added up exactly.
    """
    if shape.out_c // shape.groups >= unit.lanes or shape.in_c // shape.groups > unit.lanes:
        return False
    return shape.k <= (_EXACT if dtype in ("uint8", "int8") else _MOST_TAPS)


def ungrouped(weights: Array, groups: int) -> Array:
    """The same convolution with one group: (out, in / groups, h, w) becomes (out, in, h, w)."""
    outs, ins = weights.shape[0] // groups, weights.shape[1]
    whole = np.zeros((weights.shape[0], groups * ins, *weights.shape[2:]), weights.dtype)
    for group in range(groups):
        rows = slice(group * outs, (group + 1) * outs)
        whole[rows, group * ins : (group + 1) * ins] = weights[rows]
    return whole


def pack_narrow(shape: ir.Contraction, weights: Array) -> Array:
    """Weights as `DepthwiseKernel` takes them: taps first, output channels last.

    Args:
        shape: The convolution; it may have more groups of one channel than the weights.
        weights: (out, in / groups, kernel_h, kernel_w).
    """
    depth = weights.shape[1]
    taps = weights.transpose(2, 3, 1, 0).reshape(-1, depth, weights.shape[0])
    taps = pad_to(taps, (*taps.shape[:2], shape.out_c))
    return taps[:, 0] if depth == 1 else taps
