"""Put the channels of a group into the order in which they are missed least."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.prune.eliminate import Elimination, Reader, eliminate
from gcompile.passes.prune.groups import Group
from gcompile.passes.prune.matrices import blocks, weight_matrix
from gcompile.passes.prune.moments import Moments
from gcompile.passes.prune.observe import inferences, input_of, observed
from gcompile.passes.prune.products import Product, products
from gcompile.passes.prune.refit import place_for_bias, why_unobserved
from gcompile.passes.prune.remove import values_by_name
from gcompile.passes.prune.walk import Walk

RIDGE = 1e-4
"""Covariances of few rows are singular: this share of the mean variance is added."""


class Importance(StrEnum):
    """What decides which channels go."""

    RECONSTRUCTION = "reconstruction"
    MAGNITUDE = "magnitude"
    TAYLOR = "taylor"


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


def by_reconstruction(
    model: ir.Model, groups: Sequence[Group], rows: Arrays, run: Runner
) -> dict[str, Elimination]:
    """Order the channels of groups by the error of what reads them, the rest of it refitted.

    Args:
        model: The whole model.
        groups: Groups that `why_unranked` has nothing against.
        rows: Calibration rows.
        run: Runs a model on rows.

    Returns:
        The order of the channels of each group, by its name.
    """
    read = [p for p in products(model) if any(p.name in group.readers for group in groups)]
    stops = [str(input_of(product).name) for product in read]
    count, walk = inferences(model, rows), Walk(model, rows, run)
    readers: dict[str, list[Reader]] = {group.name: [] for group in groups}
    for index, product in enumerate(read):
        x = walk.go([stops[index]], set(stops[index + 1 :]))[stops[index]]
        moments = observed(product, x, None, count, range(count))
        for group in groups:
            if product.name in group.readers:
                readers[group.name].append(_reader(product, group, moments))
    return {group.name: eliminate(readers[group.name], group.size) for group in groups}


def _reader(product: Product, group: Group, moments: Moments) -> Reader:
    assert product.sums is not None
    own = blocks(product, group.places(product.weight, product.sums))
    centred = place_for_bias(product) is not None
    covariance = moments.covariance(centred=centred)
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
