"""Attention as one launch, with a CPU form in whole arrays where the interpreter would be slow."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gcompile import ir
from gcompile.backends.cuda.kernel import Buffer, CpuForm, Kernel
from gcompile.backends.cuda.kernels.attention import QUERIES, Attention, Mask, Rows
from gcompile.backends.cuda.kernels.attention_program import AttentionProgram
from gcompile.backends.cuda.lowering.attention_pattern import FoundAttention
from gcompile.backends.cuda.lowering.numeric_form import INTERPRETED_OPERATIONS, Array
from gcompile.backends.cuda.program.launch import as_kernel
from gcompile.backends.tvm.lowering.expressions import CannotEmitError
from gcompile.targets import Target

_ARCH = 80
"""The oldest architecture with asynchronous copies and bfloat16."""

_DEEPEST = 128
"""Elements of a vector whose sums fit the registers of a warp."""

_WARPS = (4, 2, 1)

_IDLE = 0.2
"""Share of the multiprocessors that may be without a block."""

_ELEMENTS = {ir.DataType.BFLOAT16: "bf16", ir.DataType.FLOAT16: "f16"}
_UNITS = {"f16": "tensor-core-fp16", "bf16": "tensor-core-bf16"}


def attention_kernel(
    found: FoundAttention, mask: tuple[int, ...] | None, target: Target, arch: int
) -> Kernel:
    """Give attention its kernel, whose arguments are q, k, v, the mask if there is one, and o.

    Args:
        found: What the graph has.
        mask: The shape of the sum of its masks, as large as it is in memory.
        target: The GPU that blocks are chosen for.
        arch: Its architecture: 80 for sm_80.

    Raises:
        CannotEmitError: The sizes or the types are none that the kernel does.
    """
    batch, heads, key_heads, queries, keys, depth = found.sizes
    q, k, v = found.operands
    types = {operand.value.dtype for operand in found.operands} | {found.output.dtype}
    element = _ELEMENTS.get(types.pop() or ir.DataType.FLOAT)
    if types or element is None or arch < _ARCH:
        raise CannotEmitError(f"sm_{arch} has no attention for the types of its operands")
    if depth > _DEEPEST:
        raise CannotEmitError(f"vectors of {depth} elements do not fit the registers of a warp")
    try:
        what = Attention(
            "attention",
            element,
            batch,
            heads,
            key_heads,
            queries,
            keys,
            depth,
            found.scale,
            found.causal,
            (q.rows, k.rows, v.rows, found.rows),
            None if mask is None else Mask(_four(mask)),
            zero_if_hidden=found.zero_if_hidden,
        )
    except ValueError as error:
        raise CannotEmitError(str(error)) from error
    enough = (1 - _IDLE) * target.processors
    chosen = next((w for w in _WARPS if _blocks(what, w) >= enough), _WARPS[-1])
    return _kernel(replace(what, warps=chosen))


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    batch, heads, queries, keys = (1,) * (4 - len(shape)) + shape
    return batch, heads, queries, keys


def _blocks(what: Attention, warps: int) -> int:
    return math.ceil(what.queries / (warps * QUERIES)) * what.batch * what.heads


def _kernel(what: Attention) -> Kernel:
    digest = hashlib.sha256(repr(replace(what, name="")).encode()).hexdigest()[:16]
    named = replace(what, name=f"attention_{what.element}_{digest}")
    program = AttentionProgram(named)
    keys = math.ceil(named.keys / named.block_keys) * named.block_keys
    blocks = _blocks(named, named.warps)
    operations = 4 * blocks * named.block_queries * keys * program.padded_depth
    kernel = as_kernel(program.program(), _UNITS[named.element], operations, _ARCH)
    return (
        replace(kernel, cpu=attention_in_arrays(named))
        if operations > INTERPRETED_OPERATIONS
        else kernel
    )


def attention_in_arrays(what: Attention) -> CpuForm:
    """The CPU form in whole arrays; exponentials are rounded before they weight values."""

    def compute(buffers: Sequence[Buffer]) -> None:
        counts = (
            (what.heads, what.queries),
            (what.key_heads, what.keys),
            (what.key_heads, what.keys),
        )
        q, k, v = (
            _vectors(buffer, rows, (what.batch, *count, what.depth)).astype(np.float32)
            for buffer, rows, count in zip(buffers, what.rows, counts, strict=False)
        )
        group = what.heads // what.key_heads
        k, v = (np.repeat(array, group, 1) for array in (k, v))
        weights = q @ k.swapaxes(-1, -2) * np.float32(what.scale)
        if what.mask is not None:
            weights = weights + buffers[3].astype(np.float32).reshape(what.mask.shape)
        if what.causal:
            ahead = np.arange(what.keys) > np.arange(what.queries)[:, None] + (
                what.keys - what.queries
            )
            weights = np.where(ahead, -np.inf, weights)
        largest = weights.max(-1, keepdims=True)
        powers = np.exp(weights - np.where(np.isinf(largest), 0, largest))
        sums = powers.sum(-1, keepdims=True)
        weighted = powers.astype(buffers[0].dtype).astype(np.float32) @ v
        with np.errstate(invalid="ignore"):
            result = weighted / np.where(sums == 0, 1 if what.zero_if_hidden else sums, sums)
        o = _vectors(buffers[-1], what.rows[3], (what.batch, what.heads, what.queries, what.depth))
        o[...] = result.astype(o.dtype)

    return compute


def _vectors(buffer: Buffer, rows: Rows, shape: tuple[int, int, int, int]) -> Array:
    """The vectors as (batch, heads, count, depth), in the buffer's own memory."""
    steps = (rows.batch_pitch, rows.head_pitch, rows.pitch, 1)
    strides = [step * buffer.itemsize for step in steps]
    return as_strided(buffer[rows.offset :], shape, strides)
