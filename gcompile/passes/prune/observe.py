"""What products read on calibration rows."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import Arrays
from gcompile.passes.precision.run_rows import batches
from gcompile.passes.prune.matrices import Matrix, input_rows, output_rows, weight_matrix
from gcompile.passes.prune.moments import Moments
from gcompile.passes.prune.products import Product

_OPERATIONS = 2e12
_BYTES = 1 << 28
_LEAST_INFERENCES, _MOST_INFERENCES = 8, 1024

_ROWS_PER_INPUT, _LEAST_ROWS = 64, 1 << 14
"""The error of least squares exceeds the least there is by about one part in 64."""

_ELEMENTS_AT_ONCE = 1 << 22


def sample(model: ir.Model, calibration: Arrays) -> Arrays:
    """As many rows as bounded work and memory allow: 8 to 1024 inferences."""
    operations = sum(ir.work_of(region).product_ops for region in ir.regions(model.graph))
    largest = max((_bytes(v) for node in model.graph for v in node.outputs), default=1)
    rows = int(min(_OPERATIONS / max(operations, 1), _BYTES / max(largest, 1)))
    wanted = min(max(rows, _LEAST_INFERENCES), _MOST_INFERENCES)
    return next(batches(calibration, model, wanted))


def inferences(model: ir.Model, rows: Arrays) -> int:
    """How many inferences the rows make."""
    return sum(1 for _ in batches(rows, model, 1))


def input_of(product: Product) -> ir.Value:
    """What a product multiplies with its weights."""
    value = product.node.inputs[0]
    assert value is not None
    return value


def observed(
    product: Product,
    inputs: ir.Array,
    missed: ir.Array | None,
    count: int,
    chosen: range,
    about: Matrix | None = None,
) -> Moments:
    """Sum over some of the inferences.

    Args:
        product: What reads the inputs.
        inputs: What it reads in `count` inferences, joined along axis 0.
        missed: What its output is short of, in the same inferences.
        count: How many inferences there are.
        chosen: Which of them to sum over.
        about: See `Moments`.
    """
    picked = _picked(product, count)
    size = max(_ELEMENTS_AT_ONCE // _elements(product), 1)
    found: Moments | None = None
    for start in chosen[::size]:
        piece = start, min(start + size, chosen.stop)
        x = input_rows(product, _between(inputs, *piece, count), picked)
        r = None
        if missed is not None:
            r = output_rows(product, _between(missed, *piece, count))[picked]
        moments = Moments.of(x, r, about if found is None else found.about)
        found = moments if found is None else found.plus(moments)
    assert found is not None
    return found


def _picked(product: Product, count: int) -> slice:
    """Which rows of inferences to look at: enough for the weights, from everywhere in an image.

    Neighbouring pixels say much the same: a few of each image say more than all of a few images.
    """
    depth, width = weight_matrix(product).shape
    pixels = math.prod(ir.static_shape(product.node.outputs[0])) // width
    step = max(pixels * count // max(_ROWS_PER_INPUT * depth, _LEAST_ROWS), 1)
    while math.gcd(step, pixels) > 1:
        step += 1
    return slice(None, None, step)


def _elements(product: Product) -> int:
    """How many numbers an inference makes of what a product reads and writes."""
    sizes = (math.prod(ir.static_shape(v)) for v in (input_of(product), product.node.outputs[0]))
    return sum(sizes)


def _between(array: ir.Array, start: int, end: int, count: int) -> NDArray[np.float32]:
    """Some of the inferences that are joined along axis 0."""
    size = len(array) // count
    return np.asarray(array[start * size : end * size], np.float32)


def _bytes(value: ir.Value) -> int:
    return ir.value_bytes(value) if value.shape is not None and value.shape.is_static() else 0
