"""Convolutions of several groups as products: a group each, or a few narrow groups together.

A block of tensor cores has 16 columns at least. Groups of fewer outputs are joined: their weights
are a matrix with zeros where an output does not see an input, which costs operations that idle
columns would cost as well.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.lowering.groups import ungrouped
from gcompile.backends.tvm.lowering.weights import Array

_COLUMNS = 16


def groups_of(shape: ir.Contraction) -> int:
    """How many groups the kernel knows, of which each is one or several of the convolution's."""
    outputs = shape.out_c // shape.groups
    fitting = (g for g in range(shape.groups, 0, -1) if shape.groups % g == 0)
    return next((g for g in fitting if outputs * (shape.groups // g) >= _COLUMNS), 1)


def one_group(shape: ir.Contraction, groups: int, stored_channels: int) -> ir.Contraction:
    """The sizes of one of the kernel's groups; a single one has the channels that pad, too."""
    channels = stored_channels if groups == 1 else shape.in_c // groups
    return replace(shape, in_c=channels, out_c=shape.out_c // groups, groups=1)


def joined_groups(weights: Array, own: int, groups: int) -> Array:
    """Weights of the kernel's groups.

    Args:
        weights: (out, in / own, kernel_h, kernel_w).
        own: Groups of the convolution.
        groups: Those of the kernel, which divide them.

    Returns:
        (groups, out / groups, in / groups, kernel_h, kernel_w), without the first axis for one.
    """
    parts = weights.reshape(groups, -1, *weights.shape[1:])
    joined = np.stack([ungrouped(part, own // groups) for part in parts])
    return joined if groups > 1 else joined[0]
