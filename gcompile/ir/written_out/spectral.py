"""Discrete Fourier transforms as products with constant matrices.

    X[k] = sum over n of x[n] · exp(-2πi · n·k / N)

Real and imaginary parts lie side by side on the last axis, so that a transform of one axis is one
real product of (n, part) with a matrix of (n, part) by (k, part).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from gcompile.ir.constants import Array
from gcompile.ir.written_out.writer import Writer

_MOST_ELEMENTS = 1 << 24
"""Elements of a matrix: a transform of 2,048 complex numbers has as many."""


def dft(writer: Writer) -> Sequence[onnx_ir.Value] | None:
    """DFT of opset 20, whose axis is an input."""
    shape, inverse = writer.shape(0), bool(writer.integer("inverse", 0))
    onesided = bool(writer.integer("onesided", 0))
    axis, length = _scalar(writer, 2, -2), _scalar(writer, 1, None)
    if shape is None or axis is None or (writer.has(1) and length is None):
        return None
    axis %= len(shape)
    if inverse and onesided:
        length = 2 * (shape[axis] - 1) if length is None else length
        matrix = _real_matrix(shape[axis], length)
    else:
        length = shape[axis] if length is None else length
        matrix = _matrix(shape[axis], shape[-1], length, inverse, onesided)
    parts = 1 if inverse and onesided else 2
    if matrix is None:
        return None
    return [_transformed(writer, writer.input(0), shape, axis, matrix, parts)]


def stft(writer: Writer) -> Sequence[onnx_ir.Value] | None:
    """Frames of the signal, windowed, each with its transform."""
    shape, step = writer.shape(0), _scalar(writer, 1, None)
    window = writer.shape(2)
    length = _scalar(writer, 3, None if window is None else window[0])
    if shape is None or step is None or length is None or len(shape) not in (2, 3):
        return None
    signal = writer.input(0)
    if len(shape) == 2:
        signal = writer.op("Unsqueeze", signal, writer.constant([2]))
        shape = (*shape, 1)
    onesided = bool(writer.integer("onesided", 1)) and shape[-1] == 1
    count = (shape[1] - length) // step + 1
    places = np.arange(count)[:, None] * step + np.arange(length)
    frames = writer.op("Gather", signal, writer.constant(places), axis=1)
    if window is not None:
        column = writer.op("Reshape", writer.input(2), writer.constant([length, 1]))
        frames = writer.op("Mul", frames, column)
    matrix = _matrix(length, shape[-1], length, inverse=False, onesided=onesided)
    if matrix is None:
        return None
    return [_transformed(writer, frames, (shape[0], count, length, shape[-1]), 2, matrix)]


def _scalar(writer: Writer, index: int, default: int | None) -> int | None:
    if not writer.has(index):
        return default
    known = writer.known(index)
    return None if known is None else int(known.reshape(()))


def _matrix(
    count: int, parts: int, length: int, inverse: bool, onesided: bool
) -> NDArray[np.float64] | None:
    """What multiplies (count, parts) numbers; those after `length` do not count."""
    bins = length // 2 + 1 if onesided else length
    if 2 * count * parts * bins > _MOST_ELEMENTS:
        return None
    turns = np.outer(np.arange(count), np.arange(bins)) % length
    wave = np.exp((2j if inverse else -2j) * np.pi * turns / length)
    wave *= (np.arange(count) < length)[:, None] / (length if inverse else 1)
    rows = [np.stack([wave.real, wave.imag], -1), np.stack([-wave.imag, wave.real], -1)]
    return np.stack(rows[:parts], 1).reshape(count * parts, 2 * bins)


def _real_matrix(count: int, length: int) -> NDArray[np.float64] | None:
    """The inverse of a transform of real numbers, from its first `length // 2 + 1` bins.

    Every bin but that of zero, and of half the length, stands for its conjugate, too.
    """
    bins = min(count, length // 2 + 1)
    if 2 * count * length > _MOST_ELEMENTS:
        return None
    weight = np.full(bins, 2.0)
    weight[0] = 1
    if length % 2 == 0 and bins == length // 2 + 1:
        weight[-1] = 1
    wave = np.exp(2j * np.pi * (np.outer(np.arange(bins), np.arange(length)) % length) / length)
    wave *= weight[:, None] / length
    matrix = np.zeros((count, 2, length))
    matrix[:bins] = np.stack([wave.real, -wave.imag], 1)
    return matrix.reshape(2 * count, length)


def _transformed(
    writer: Writer,
    x: onnx_ir.Value,
    shape: tuple[int, ...],
    axis: int,
    matrix: NDArray[np.float64],
    parts: int = 2,
) -> onnx_ir.Value:
    """Multiply along an axis, with the parts of the last one."""
    order = [i for i in range(len(shape) - 1) if i != axis] + [axis, len(shape) - 1]
    others = [shape[i] for i in order[:-2]]
    rows = writer.op("Transpose", x, perm=order)
    rows = writer.op("Reshape", rows, writer.constant([*others, matrix.shape[0]]))
    constant: Array = matrix.astype(writer.dtype(0).numpy())
    product = writer.op("MatMul", rows, writer.constant(constant))
    pairs = writer.op(
        "Reshape", product, writer.constant([*others, matrix.shape[1] // parts, parts])
    )
    return writer.op("Transpose", pairs, perm=[int(i) for i in np.argsort(order)])


RULES = {"DFT": dft, "STFT": stft}
