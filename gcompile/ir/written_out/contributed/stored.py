"""Weights that are stored as integers in layouts of ONNX Runtime's own."""

from __future__ import annotations

from collections.abc import Sequence

import ml_dtypes
import numpy as np
import onnx_ir
from numpy.typing import NDArray

from gcompile.ir.constants import Array, constant_array
from gcompile.ir.written_out.writer import Writer

Results = Sequence[onnx_ir.Value | None] | None
_TYPES = {4: np.dtype(ml_dtypes.int4), 8: np.dtype(np.int8)}


def product_of_bits(writer: Writer) -> Results:
    """MatMulNBits: a product with a weight of 4 or 8 bits, in blocks along its depth.

    The weight (N, blocks, bytes) becomes one of (K, N) and half the range is taken from it, as it
    is from zero points: what is left is signed.
    """
    bits, block = writer.integer("bits", 4), writer.integer("block_size", 0)
    depth, columns = writer.integer("K", 0), writer.integer("N", 0)
    packed, scales = _array(writer, 1), _array(writer, 2)
    if bits not in _TYPES or packed is None or scales is None or writer.has(4):
        return None
    blocks = -(-depth // block)
    weight = _signed(packed.reshape(columns, -1), bits)[:, :depth].T
    operands = [
        writer.constant(np.ascontiguousarray(weight)),
        writer.constant(np.ascontiguousarray(scales.reshape(columns, blocks).T)),
    ]
    if writer.has(3):
        zeros = _array(writer, 3)
        if zeros is None or zeros.dtype != np.uint8:
            return None
        signed = _signed(zeros.reshape(columns, -1), bits)[:, :blocks].T
        operands.append(writer.constant(np.ascontiguousarray(signed)))
    decoded = writer.op("DequantizeLinear", *operands, axis=0, block_size=block)
    product = writer.op("MatMul", writer.input(0), decoded)
    if writer.has(5):
        product = writer.op("Add", product, writer.input(5))
    return [product]


def _signed(packed: Array, bits: int) -> Array:
    """Numbers of a row of bytes, the low half of each first, less half of their range."""
    codes = packed.astype(np.int16)
    if bits == 4:
        codes = np.stack([codes & 15, codes >> 4], -1).reshape(len(codes), -1)
    signed: Array = (codes - (1 << (bits - 1))).astype(np.int8).astype(_TYPES[bits])
    return signed


def recurrent(writer: Writer) -> Results:
    """DynamicQuantizeLSTM: an LSTM with the weights that its integers stand for.

    Activations are not rounded to integers, which is nearer to the model it was made of.
    """
    weights = [_decoded(writer, index, scale) for index, scale in ((1, 8), (2, 10))]
    if any(weight is None for weight in weights):
        return None
    constants = [writer.constant(weight) for weight in weights if weight is not None]
    others = [*writer.node.inputs[3:8], *[None] * 5][:5]
    outputs = writer.same_outputs(
        "LSTM", len(writer.node.outputs), writer.input(0), *constants, *others
    )
    return list(outputs)


def _decoded(writer: Writer, index: int, scale_index: int) -> NDArray[np.float32] | None:
    """A weight (directions, inputs, 4 · hidden) as ONNX has it: the last two axes exchanged."""
    stored, scale, zero = (_array(writer, i) for i in (index, scale_index, scale_index + 1))
    if stored is None or scale is None or (zero is None and writer.has(scale_index + 1)):
        return None
    directions = stored.shape[0]
    numbers = stored.astype(np.float32)
    if zero is not None:
        numbers -= zero.astype(np.float32).reshape(directions, 1, -1)
    numbers *= scale.astype(np.float32).reshape(directions, 1, -1)
    return np.ascontiguousarray(numbers.transpose(0, 2, 1))


def _array(writer: Writer, index: int) -> Array | None:
    return constant_array(writer.node.inputs[index]) if writer.has(index) else None


RULES = {"DynamicQuantizeLSTM": recurrent, "MatMulNBits": product_of_bits}
