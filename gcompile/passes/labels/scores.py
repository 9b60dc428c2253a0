"""The scores of a classifier, and the labels they are compared with."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.labels.logistic import Labels
from gcompile.passes.product_bias import ProductBias, bias_of

_MONOTONE = ("Softmax", "LogSoftmax", "Identity")
NO_LABELS = "no labels were given beside the calibration rows"
NO_CLASSES = "the model does not make one row of scores, one for each class"
NO_BIAS = "no constant can be added to the scores at no cost"
NO_GAIN = "labels that it was not fitted to are hardly more likely with it"


def folds(
    count: int, parts: int, seed: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield, for each part of the rows drawn at random, the other rows and those of the part."""
    order = np.random.default_rng(seed).permutation(count)
    found = np.array_split(order, min(parts, count))
    for index, part in enumerate(found):
        yield np.concatenate([*found[:index], *found[index + 1 :]]), part


def scores_of(model: ir.Model) -> tuple[ir.Value | None, ProductBias | None]:
    """What the chosen class is the largest of, and where a constant is added to it."""
    if len(model.graph.outputs) != 1:
        return None, None
    value: ir.Value = model.graph.outputs[0]
    node = value.producer()
    while node is not None and node.op_type in _MONOTONE and not node.domain:
        before = node.inputs[0]
        if before is None:
            return None, None
        value, node = before, before.producer()
    shape = value.shape
    if shape is None or not shape.is_static():
        return None, None
    return value, _place(node) if node is not None else None


def _place(node: ir.Node) -> ProductBias | None:
    """Where the node that makes the scores adds, or can add, a constant for each class."""
    if node.op_type == "Add":
        places = [i for i, v in enumerate(node.inputs) if ir.is_constant(v)]
        return ProductBias(node, places[0], node.inputs[places[0]]) if places else None
    return bias_of(node) if node.op_type in ("Gemm", "Conv") else None


def checked_labels(labels: NDArray[np.generic], classes: int) -> Labels:
    """Labels as integers.

    Raises:
        UsageError: They are no numbers of classes.
    """
    if labels.ndim != 1 or labels.dtype.kind not in "iu" or labels.max(initial=0) >= classes:
        raise UsageError(
            f"Labels beside the calibration rows must be a row of integers below {classes}, one "
            f"for each class; these have the type {labels.dtype} and the shape {labels.shape}."
        )
    return labels.astype(np.int64)


def add_bias(model: ir.Model, place: ProductBias, shift: NDArray[np.float64]) -> None:
    """Add a constant per class to the scores, in place."""
    old = ir.constant_array(place.constant)
    before = np.zeros(1) if old is None else old.astype(np.float64)
    shape = old.shape if old is not None and old.size == shift.size else (shift.size,)
    new = np.broadcast_to(before.reshape(-1), shift.shape) + shift
    name = place.constant.name if place.constant is not None else f"{place.node.name}_bias"
    place.set(
        ir.add_constant(model.graph, f"{name}_fitted", new.reshape(shape).astype(np.float32))
    )
    ir.remove_unused(model)
