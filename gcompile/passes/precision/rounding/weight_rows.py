"""Weights as matrices whose rows make one output each, in the order of the inputs they meet."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from gcompile import ir

Number = TypeVar("Number", bound=np.generic)


def to_rows(node: ir.Node, weight: NDArray[Number]) -> NDArray[Number]:
    """The weights of a product as (groups, channels of a group, depth)."""
    if node.op_type == "Conv":
        groups = node.attributes.get_int("group", 1)
        return weight.reshape(groups, weight.shape[0] // groups, -1)
    return weight[None] if _is_turned(node) else weight.T[None]


def from_rows(
    node: ir.Node, rows: NDArray[np.generic], shape: tuple[int, ...]
) -> NDArray[np.generic]:
    """What `to_rows` was given, from what it returned."""
    if node.op_type == "Conv" or _is_turned(node):
        return rows.reshape(shape)
    return np.ascontiguousarray(rows[0].T)


def _is_turned(node: ir.Node) -> bool:
    return node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
