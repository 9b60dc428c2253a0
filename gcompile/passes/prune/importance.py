"""Put the channels of a group into the order in which they are missed least."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.prune.eliminate import Elimination, Reader, eliminate
from gcompile.passes.prune.groups import Group
from gcompile.passes.prune.matrices import blocks, input_rows, weight_matrix
from gcompile.passes.prune.moments import Moments
from gcompile.passes.prune.observe import observe
from gcompile.passes.prune.products import Product, products
from gcompile.passes.prune.refit import (
    input_of,
    observed_elements,
    picked_rows,
    place_for_bias,
    why_unobserved,
)
from gcompile.passes.prune.remove import values_by_name

RIDGE = 1e-4
"""Covariances of few rows are singular: this share of the mean variance is added."""


class Importance(StrEnum):
    """What decides which channels go."""

    RECONSTRUCTION = "reconstruction"
    MAGNITUDE = "magnitude"


def by_magnitude(model: ir.Model, group: Group) -> Elimination:
    """Order channels by the norm of all weights they lie in: rows, columns, scales and biases.

    The error of removing some is their share of the squared norm of all.
    """
    values = values_by_name(model)
    power = np.zeros(group.size)
    for member in group.members:
        array = _real_array(values[member.value])
        if array is not None:
            along = np.moveaxis(array, member.axis, 0).reshape(member.extent, -1)
            squares = (along.astype(np.float64) ** 2).sum(axis=1)
            power += squares[member.places].sum(axis=1)
    order = np.argsort(power, kind="stable")
    return Elimination(order, np.cumsum(power[order])[:-1] / max(float(power.sum()), 1e-300))


def why_unranked(model: ir.Model, group: Group) -> str | None:
    """Say why the error of removing channels cannot be measured; None where it can."""
    read = _readers(model, group)
    for product in read:
        if reason := why_unobserved(product):
            return f"what reads it cannot be refitted: {reason}"
    return None if read else "no product reads it"


def by_reconstruction(model: ir.Model, group: Group, rows: Arrays, run: Runner) -> Elimination:
    """Order channels by the error of the products that read them, the rest of each refitted.

    Args:
        model: The whole model.
        group: A group that `why_unranked` has nothing against.
        rows: Calibration rows.
        run: Runs a model on rows.
    """
    read = _readers(model, group)
    names = {product.name: str(input_of(product).name) for product in read}
    moments = {p.name: Moments.empty(len(weight_matrix(p))) for p in read}
    picked = {p.name: picked_rows(p, model, rows) for p in read}
    elements = sum(observed_elements(product) for product in read)
    for piece in observe(model, list(dict.fromkeys(names.values())), rows, run, elements):
        for product in read:
            x = np.asarray(piece[names[product.name]], np.float32)
            moments[product.name].add(input_rows(product, x, picked[product.name]))
    readers = [_reader(product, group, moments[product.name]) for product in read]
    return eliminate(readers, group.size)


def _reader(product: Product, group: Group, moments: Moments) -> Reader:
    assert product.sums is not None
    own = blocks(product, group.places(product.weight, product.sums))
    centred = place_for_bias(product) is not None
    covariance = moments.covariance() if centred else moments.about_zero()
    return Reader.of(weight_matrix(product), covariance, own, RIDGE)


def _readers(model: ir.Model, group: Group) -> list[Product]:
    return [product for product in products(model) if product.name in group.readers]


def _real_array(value: ir.Value) -> NDArray[np.generic] | None:
    """A constant of real numbers; what is stored narrow is decoded."""
    array = ir.constant_array(value)
    if array is None or array.dtype.kind == "f":
        return array
    reader = ir.only_reader(value)
    if reader is None or reader.op_type != "DequantizeLinear" or value is not reader.inputs[0]:
        return None
    decoded = ir.evaluate_node(reader, ir.OPSET)
    return decoded[0] if decoded else None
