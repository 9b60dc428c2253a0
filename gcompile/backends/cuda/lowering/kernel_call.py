"""Functions without a body that stand for kernels of ours within a Relax module."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import tirx
from tvm.script.ir_builder import IRBuilder
from tvm.tirx.script import builder as T  # noqa: N812 - as all TensorIR is written

from gcompile.backends.cuda.kernel import KernelSequence

ANCHOR_ATTRIBUTE = "gcompile.anchor"
"""On a function without a body: the name of the anchor that computes it."""

_OPAQUE = 8
"""TVM's number for functions that nothing may be fused with (`OpPatternKind::kOpaque`)."""


@dataclass(frozen=True)
class KernelCall:
    """Kernels of ours, and the names of their operands in the order of a call."""

    sequence: KernelSequence
    operands: tuple[str, ...]


def placeholder(name: str, types: Sequence[Any]) -> tirx.PrimFunc:
    """Write a function that stands for an anchor: it has its arguments and no body.

    Args:
        name: Of the function, and of what it stands for.
        types: Relax tensor types of what is read, then of what is written.
    """
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name(name)
        T.func_attr({ANCHOR_ATTRIBUTE: name, "op_pattern": _OPAQUE})
        for index, ty in enumerate(types):
            shape = tuple(int(size) for size in ty.shape)
            T.arg(f"a{index}", T.Buffer(shape, str(ty.dtype), layout=None))
        with T.sblock("root"):
            T.reads([])
            T.writes([])
            T.evaluate(0)
    return builder.get()
