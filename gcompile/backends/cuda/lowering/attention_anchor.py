"""Attention as one launch, with a CPU form in whole arrays where the interpreter would be slow."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import ml_dtypes
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.cuda.kernel import Buffer, CpuForm, Kernel, Traffic
from gcompile.backends.cuda.kernels.attention import (
    LOG2_E,
    QUERIES,
    RESULT_FACTOR,
    RESULT_ZERO_POINT,
    WEIGHT_FACTOR,
    ZERO_POINTS,
    Attention,
    Mask,
    Stored,
)
from gcompile.backends.cuda.kernels.attention_copies import AttentionCopies
from gcompile.backends.cuda.kernels.attention_program import AttentionProgram
from gcompile.backends.cuda.kernels.processor import processor_of
from gcompile.backends.cuda.lowering.numeric_form import INTERPRETED_OPERATIONS, Array
from gcompile.backends.cuda.program.instruction import ASYNC_ARCH, instruction_for
from gcompile.backends.cuda.program.launch import as_kernel
from gcompile.backends.cuda.program.program import Storage
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.ir.attention import FoundAttention, Reader, Rows
from gcompile.ir.attention import Stored as FoundStored
from gcompile.targets import Target

_MOST_WORDS = 64
"""Registers of a thread that may hold the next keys and values, where they pass through them."""

_BLOCK_KEYS = (64, 32, 16)

_DEEPEST = 128
"""Elements of a vector whose sums fit the registers of a warp."""

_WARPS = (4, 2, 1)

_IDLE = 0.2
"""Share of the multiprocessors that may be without a block."""

_STORAGES: dict[ir.DataType, Storage] = {
    ir.DataType.BFLOAT16: "bfloat16",
    ir.DataType.FLOAT16: "float16",
    ir.DataType.INT8: "int8",
    ir.DataType.UINT8: "uint8",
}

READER = Reader(tuple(_STORAGES), unit=8)
"""What the kernel reads: vectors are copied in units of eight elements."""

_UNITS = {"f16": "tensor-core-fp16", "bf16": "tensor-core-bf16"}


def attention_kernel(
    found: FoundAttention, mask: tuple[int, ...] | None, target: Target, arch: int
) -> tuple[Kernel, NDArray[np.float32] | None]:
    """Give attention its kernel.

    Args:
        found: What the graph has.
        mask: The shape of the sum of its masks, as large as it is in memory.
        target: The GPU that blocks are chosen for.
        arch: Its architecture: 80 for sm_80.

    Returns:
        The kernel and the numbers that it is given: its arguments are q, k, v, the mask and the
        numbers if there are any, and o.

    Raises:
        CannotEmitError: The sizes or the types are none that the kernel does.
    """
    batch, heads, key_heads, queries, keys, depth = found.sizes
    q, k, v = found.operands
    q_stored, k_stored, v_stored, o_stored = (
        _stored(tensor.stored) for tensor in (q, k, v, found.output)
    )
    tensors = (q_stored, k_stored, v_stored, o_stored)
    if any(m.hidden is not None or m.value.dtype != ir.DataType.FLOAT for m in found.masks):
        raise CannotEmitError("a mask of attention is not added in float32")
    element = _element(tensors)
    if element is None or instruction_for(element, arch).architecture > arch:
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
            (q.rows, k.rows, v.rows, found.output.rows),
            None if mask is None else Mask(_four(mask)),
            zero_if_hidden=found.zero_if_hidden,
            stored=tensors,
            arch=min(arch, ASYNC_ARCH),
        )
    except ValueError as error:
        raise CannotEmitError(str(error)) from error
    enough = (1 - _IDLE) * target.processors
    chosen = next((w for w in _WARPS if _blocks(what, w) >= enough), _WARPS[-1])
    numbers = np.array(what.numbers, np.float32) if what.has_integers else None
    return _kernel(_fitting(replace(what, warps=chosen), arch)), numbers


def _fitting(what: Attention, arch: int) -> Attention:
    """With as many keys at once as shared memory and registers have room for."""
    room = processor_of(arch).block_shared_bytes
    for keys in _BLOCK_KEYS[:-1]:
        found = replace(what, block_keys=keys)
        copies = AttentionCopies(found)
        passing = 2 * copies.key_bytes // (4 * found.threads) if found.by_registers else 0
        if copies.shared_bytes <= room and passing <= _MOST_WORDS:
            return found
    return replace(what, block_keys=_BLOCK_KEYS[-1])


def _stored(found: FoundStored) -> Stored:
    return Stored(_STORAGES[found.dtype], found.scale, found.zero_point)


def _element(tensors: tuple[Stored, ...]) -> Literal["f16", "bf16"] | None:
    """What is multiplied: what is stored, and half precision where all are integers.

    It holds their differences from the zero point exactly, and the weights more exactly than
    bfloat16 does.
    """
    storages = {tensor.storage for tensor in tensors if not tensor.is_integer}
    if storages == {"bfloat16"}:
        return "bf16"
    return "f16" if storages <= {"float16"} else None


def _four(shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    batch, heads, queries, keys = (1,) * (4 - len(shape)) + shape
    return batch, heads, queries, keys


def _blocks(what: Attention, warps: int) -> int:
    return math.ceil(what.queries / (warps * QUERIES)) * what.batch * what.heads


def _kernel(what: Attention) -> Kernel:
    plain = what.without_numbers
    digest = hashlib.sha256(repr(replace(plain, name="")).encode()).hexdigest()[:16]
    named = replace(plain, name=f"attention_{what.element}_{digest}")
    program = AttentionProgram(named)
    keys = math.ceil(named.keys / named.block_keys) * named.block_keys
    blocks = _blocks(named, named.warps)
    operations = 4 * blocks * named.block_queries * keys * program.copies.padded_depth
    kernel = as_kernel(
        program.program(), _UNITS[named.element], operations, named.instruction.architecture
    )
    kernel = replace(kernel, traffic=_traffic(named, program.copies))
    return (
        replace(kernel, cpu=attention_in_arrays(named))
        if operations > INTERPRETED_OPERATIONS
        else kernel
    )


def _traffic(what: Attention, copies: AttentionCopies) -> Traffic:
    """Every block reads its queries and all keys and values, and each warp of it the latter."""
    blocks = _blocks(what, what.warps)
    steps = math.ceil(what.keys / what.block_keys)
    stored = copies.query_bytes + 2 * steps * copies.key_bytes
    read = copies.query_bytes + 2 * steps * copies.key_bytes * what.warps
    output = what.buffers[3]
    stored_share = what.buffers[1].element_bytes / what.instruction.element_bytes
    fetched = blocks * stored * stored_share + output.elements * output.element_bytes
    return Traffic(blocks * read + output.elements * output.element_bytes, fetched)


def attention_in_arrays(what: Attention) -> CpuForm:
    """The CPU form in whole arrays; exponentials are rounded before they weight values."""
    narrow = np.dtype(np.float16 if what.element == "f16" else ml_dtypes.bfloat16)

    def compute(buffers: Sequence[Buffer]) -> None:
        counts = (
            (what.heads, what.queries),
            (what.key_heads, what.keys),
            (what.key_heads, what.keys),
        )
        numbers = buffers[-2] if what.has_integers else np.array(what.numbers, np.float32)
        zero_points = numbers[ZERO_POINTS:]
        q, k, v = (
            _vectors(buffer, rows, (what.batch, *count, what.depth)).astype(np.float32) - point
            for buffer, rows, count, point in zip(
                buffers, what.rows, counts, zero_points, strict=False
            )
        )
        group = what.heads // what.key_heads
        k, v = (np.repeat(array, group, 1) for array in (k, v))
        weights = q @ k.swapaxes(-1, -2) * (numbers[WEIGHT_FACTOR] / np.float32(LOG2_E))
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
        weighted = powers.astype(narrow).astype(np.float32) @ v * numbers[RESULT_FACTOR]
        with np.errstate(invalid="ignore"):
            result = weighted / np.where(sums == 0, 1 if what.zero_if_hidden else sums, sums)
        o = _vectors(buffers[-1], what.rows[3], (what.batch, what.heads, what.queries, what.depth))
        o[...] = _encoded(result, what.tensors[3], numbers[RESULT_ZERO_POINT]).astype(o.dtype)

    return compute


def _vectors(buffer: Buffer, rows: Rows, shape: tuple[int, int, int, int]) -> Array:
    """The vectors as (batch, heads, count, depth), in the buffer's own memory."""
    steps = (rows.batch_pitch, rows.head_pitch, rows.pitch, 1)
    strides = [step * buffer.itemsize for step in steps]
    return as_strided(buffer[rows.offset :], shape, strides)


def _encoded(result: Array, how: Stored, zero_point: Array) -> Array:
    if not how.is_integer:
        return result
    info = np.iinfo(how.storage)
    held: Array = np.clip(np.rint(result) + zero_point, info.min, info.max)
    return held
