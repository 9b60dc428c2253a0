"""Scales of blocks of weights with the least squared error.

A block w is stored as integers q times a scale s. For integers that are given, the best scale and
its error are

    s = sum w·q / sum q²        error = sum w² - (sum w·q)² / sum q²

and for a scale that is given, the best integers are the nearest. Integers change only where some
w / s lies halfway between two of them, so that one pass over these places in order finds the best
of all scales: the one with the largest (sum w·q)² / sum q².
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.float64]

_SCALE_BITS = 11
"""Mantissa bits of scales: those of float16."""

_SMALLEST_SCALE = 2.0**-100
_EVENTS_AT_ONCE = 1 << 16


def best_scales(blocks: Reals, bits: int) -> Reals:
    """The scale of each block, rounded to eleven bits; 1 where a block is zero.

    With four bits all scales are looked at. With eight, those that clip the largest weight by no
    more than what rounding all others could gain; larger ones waste a part of the range.

    Args:
        blocks: (blocks, weights of a block).
        bits: Of a stored number, which has a sign.
    """
    events = _event_count(blocks.shape[1], bits)
    rows = max(1, _EVENTS_AT_ONCE // (blocks.shape[1] * events))
    found = [
        _scales(blocks[start : start + rows], bits, events)
        for start in range(0, len(blocks), rows)
    ]
    return _rounded(np.concatenate(found))


def largest_scales(blocks: Reals, bits: int) -> Reals:
    """The scale of each block with which its largest weight is the last integer, rounded alike.

    A look at each weight: much quicker than the best scale, whose error is lower.
    """
    limit = 1 << (bits - 1)
    scales = np.maximum(blocks.max(axis=1) / (limit - 1), blocks.min(axis=1) / -limit)
    return _rounded(np.where(scales > 0, np.maximum(scales, _SMALLEST_SCALE), 1.0))


def _rounded(scales: Reals) -> Reals:
    mantissas, exponents = np.frexp(scales)
    digits = np.rint(np.ldexp(mantissas, _SCALE_BITS))
    return np.asarray(np.ldexp(digits, exponents - _SCALE_BITS), np.float64)


def nearest(blocks: Reals, scales: Reals, bits: int) -> NDArray[np.int8]:
    """Each weight as the nearest multiple of its block's scale that the bits can store."""
    limit = 1 << (bits - 1)
    return np.clip(np.rint(blocks / scales[:, None]), -limit, limit - 1).astype(np.int8)


def _widest_clipping(size: int, bits: int) -> float:
    """The least share of its largest weight that the best scale of a block can represent.

    Rounding costs at most a quarter of s² per weight; clipping the largest one by more than that
    of all weights costs more than not clipping.
    """
    return max(0.0, 1.0 - math.sqrt(size) / (2 * ((1 << (bits - 1)) - 1)))


def _event_count(size: int, bits: int) -> int:
    """How often the integer of one weight can change."""
    limit = 1 << (bits - 1)
    if bits == 4:
        return limit
    return math.ceil(limit / _widest_clipping(size, bits)) - limit + 3


def _scales(blocks: Reals, bits: int, events: int) -> Reals:
    """Walk 1 / s upwards: each event raises the magnitude of one integer by 1."""
    limit = 1 << (bits - 1)
    sizes = np.abs(blocks)
    highest = np.where(blocks < 0, limit, limit - 1)[:, :, None]
    largest = np.maximum(sizes.max(axis=1), _SMALLEST_SCALE)
    start = np.zeros(len(blocks)) if bits == 4 else (limit - 1.5) / largest
    first = np.floor(sizes * start[:, None] + 0.5)[:, :, None]
    with np.errstate(divide="ignore"):
        levels = first + np.arange(events)
        inverse = (levels + 0.5) / sizes[:, :, None]
    is_event = (levels < highest) & (sizes[:, :, None] > 0)
    inverse = np.where(is_event, inverse, np.inf).reshape(len(blocks), -1)
    order = np.argsort(inverse, axis=1)
    products = (sizes[:, :, None] * is_event).reshape(len(blocks), -1)
    squares = ((2 * levels + 1) * is_event).reshape(len(blocks), -1)
    before = first[:, :, 0]
    wq = _running((sizes * before).sum(axis=1), products, order)
    qq = _running((before**2).sum(axis=1), squares, order)
    gain = np.divide(wq**2, qq, out=np.zeros_like(wq), where=qq > 0)
    best = gain.argmax(axis=1)[:, None]
    wq, qq = (np.take_along_axis(array, best, 1)[:, 0] for array in (wq, qq))
    scales = np.divide(wq, qq, out=np.ones_like(wq), where=wq > 0)
    return np.maximum(scales, _SMALLEST_SCALE)


def _running(start: Reals, steps: Reals, order: NDArray[np.intp]) -> Reals:
    """Sums before and after each step, in the order given."""
    sorted_steps = np.take_along_axis(steps, order, 1)
    return np.cumsum(np.concatenate([start[:, None], sorted_steps], axis=1), axis=1)
