"""Push a positive factor through an expression, so that a quantized output costs no multiply.

A region that ends in a quantize computes round(expression / scale). Dividing the constants inside
the expression instead leaves nothing to do at run time: activations such as ReLU and clip commute
with a positive factor.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Expression,
    Load,
    PerChannel,
    Select,
    Unary,
)
from gcompile.backends.tvm.lowering.region_expression import RegionExpression

_LARGEST = float(np.finfo(np.float32).max)


def scale_by(region: RegionExpression, factor: float) -> None:
    """Multiply the region's expression by `factor` > 0, cheaply where that is possible."""
    region.expression = _scale(region.expression, factor, region)


def _scale(node: Expression, factor: float, region: RegionExpression) -> Expression:
    match node:
        case Constant(value):
            return Constant(_finite(value * factor))
        case PerChannel(index):
            return region.add_vector(region.vectors[index] * np.float32(factor))
        case Load(index):
            return _scale_load(node, index, factor, region)
        case Unary("relu", operand):
            return Unary("relu", _scale(operand, factor, region))
        case Unary("clip", operand, low, high):
            bounds = _finite(low * factor), _finite(high * factor)
            return Unary("clip", _scale(operand, factor, region), *bounds)
        case Unary("leaky_relu", operand, alpha):
            return Unary("leaky_relu", _scale(operand, factor, region), alpha)
        case Binary("add" | "sub" | "max" | "min" as function, left, right):
            return Binary(function, _scale(left, factor, region), _scale(right, factor, region))
        case Binary("mul", left, PerChannel() | Constant() as right):
            return Binary("mul", left, _scale(right, factor, region))
        case Binary("mul", PerChannel() | Constant() as left, right):
            return Binary("mul", _scale(left, factor, region), right)
        case Select(condition, left, right):
            return Select(condition, _scale(left, factor, region), _scale(right, factor, region))
        case Accumulator() | Unary() | Binary():
            return Binary("mul", node, Constant(factor))


def _scale_load(node: Load, index: int, factor: float, region: RegionExpression) -> Expression:
    source = region.sources[index]
    if source.scale == 1.0:
        return Binary("mul", node, Constant(factor))
    scaled = replace(source, scale=source.scale * factor)
    if scaled not in region.sources:
        region.sources.append(scaled)
    return Load(region.sources.index(scaled))


def _finite(number: float) -> float:
    """The nearest finite float32: a bound that is left open must not overflow."""
    return min(max(number, -_LARGEST), _LARGEST)


def prune(region: RegionExpression) -> None:
    """Drop sources and vectors that are no longer read, and renumber the rest."""
    sources: list[int] = []
    vectors: list[int] = []
    region.expression = _renumber(region.expression, sources, vectors)
    if region.operand is not None:
        region.operand = _renumber(region.operand, sources, vectors)
    region.sources = [region.sources[i] for i in sources]
    region.vectors = [region.vectors[i] for i in vectors]


def _renumber(node: Expression, sources: list[int], vectors: list[int]) -> Expression:
    match node:
        case Load(index):
            return Load(_position(sources, index))
        case PerChannel(index):
            return PerChannel(_position(vectors, index))
        case Unary(function, operand, alpha, beta):
            return Unary(function, _renumber(operand, sources, vectors), alpha, beta)
        case Binary(function, left, right):
            first = _renumber(left, sources, vectors)
            return Binary(function, first, _renumber(right, sources, vectors))
        case Select(condition, left, right):
            parts = (_renumber(part, sources, vectors) for part in (condition, left, right))
            return Select(*parts)
        case Accumulator() | Constant():
            return node


def _position(kept: list[int], index: int) -> int:
    if index not in kept:
        kept.append(index)
    return kept.index(index)
