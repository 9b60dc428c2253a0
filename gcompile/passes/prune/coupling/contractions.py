"""Convolutions and matrix products: output channels follow rows of weights, depth is summed."""

from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.passes.prune.coupling.indices import Ids, Indices


def conv(indices: Indices, node: ir.Node) -> str | None:
    """Filters make channels. Groups stand or fall whole, with all they read and make."""
    x, weight = (indices.of(value) for value in node.inputs[:2])
    _tie_image(indices, node, x)
    out, groups = indices.of(node.outputs[0])[1], node.attributes.get_int("group", 1)
    indices.tie(weight[0], out)
    _tie_bias(indices, node, out)
    if groups == 1:
        indices.tie(x[1], weight[1])
    else:
        indices.lock(weight[1], "all groups of a convolution read as many channels")
        _tie_groups(indices, groups, x[1], out)
    return None


def conv_transpose(indices: Indices, node: ir.Node) -> str | None:
    """The same, with weights stored by input channel."""
    x, weight = (indices.of(value) for value in node.inputs[:2])
    _tie_image(indices, node, x)
    out, groups = indices.of(node.outputs[0])[1], node.attributes.get_int("group", 1)
    indices.tie(x[1], weight[0])
    _tie_bias(indices, node, out)
    if groups == 1:
        indices.tie(weight[1], out)
    else:
        indices.lock(weight[1], "all groups of a convolution make as many channels")
        _tie_groups(indices, groups, x[1], out)
    return None


def gemm(indices: Indices, node: ir.Node) -> str | None:
    """A matrix product with transposes and a bias."""
    a, b = (indices.of(value) for value in node.inputs[:2])
    a = a[::-1] if node.attributes.get_int("transA", 0) else a
    b = b[::-1] if node.attributes.get_int("transB", 0) else b
    out = indices.of(node.outputs[0])
    indices.tie(a[1], b[0])
    indices.tie(a[0], out[0])
    indices.tie(b[1], out[1])
    for theirs, mine in zip(reversed(_bias(indices, node)), reversed(out), strict=False):
        if len(theirs) == len(mine):
            indices.tie(theirs, mine)
    return None


def matmul(indices: Indices, node: ir.Node) -> str | None:
    """Matrices in the last two axes, one product for each index of those before."""
    a, b = (indices.of(value) for value in node.inputs[:2])
    out = list(indices.of(node.outputs[0]))
    indices.tie(a[-1], b[-2] if len(b) > 1 else b[-1])
    if len(b) > 1:
        indices.tie(b[-1], out.pop())
    if len(a) > 1:
        indices.tie(a[-2], out.pop())
    for batch in (a[:-2], b[:-2]):
        for theirs, mine in zip(reversed(batch), reversed(out), strict=False):
            if len(theirs) == len(mine):
                indices.tie(theirs, mine)
    return None


def _tie_image(indices: Indices, node: ir.Node, x: tuple[Ids, ...]) -> None:
    out = indices.of(node.outputs[0])
    indices.tie(x[0], out[0])
    for ids in (*x[2:], *out[2:], *indices.of(node.inputs[1])[2:]):
        indices.lock(ids, "the windows of a convolution slide along it")


def _tie_bias(indices: Indices, node: ir.Node, out: Ids) -> None:
    for ids in _bias(indices, node):
        indices.tie(ids, out)


def _bias(indices: Indices, node: ir.Node) -> tuple[Ids, ...]:
    return indices.of(node.inputs[2]) if len(node.inputs) > 2 else ()


def _tie_groups(indices: Indices, groups: int, x: Ids, out: Ids) -> None:
    """Tie everything a group reads and makes to the first channel it makes."""
    read, made = x.reshape(groups, -1), out.reshape(groups, -1)
    for ids in (read, made):
        first = np.broadcast_to(made[:, :1], ids.shape)
        indices.tie(ids.reshape(-1), first.reshape(-1))
