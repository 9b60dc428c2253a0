"""Fit what makes the scores of a classifier to labelled rows.

The fit is convex and starts from the classifier as it is; rows left out in turn decide how hard
bias and weights are held back. A bias alone comes first, and weights beside it only where they
make labels likelier yet. Either is kept only where labels that were left out are likelier than
without it, by more than the standard error of that, and no fewer of them have the largest score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import PassContext, Skip
from gcompile.passes.labels.logistic import Labels, Linear, Penalties, Scores, fit_linear
from gcompile.passes.labels.scores import (
    NO_BIAS,
    NO_CLASSES,
    NO_GAIN,
    NO_LABELS,
    add_bias,
    checked_labels,
    folds,
    scores_of,
)
from gcompile.passes.precision.run_rows import run_rows
from gcompile.passes.product_bias import ProductBias
from gcompile.passes.prune.matrices import store_weights, weight_matrix, why_not_fitted
from gcompile.passes.prune.products import Product, product_of

_PLAIN = Penalties(math.inf, math.inf)
_BIASES = tuple(Penalties(bias, math.inf) for bias in (1e-1, 1e-2, 1e-3))
_WEIGHTS = tuple(
    Penalties(each.bias, weights) for each, weights in product(_BIASES, (1.0, 0.3, 0.1, 0.03))
)
_MOST_WEIGHTS = 1 << 15
"""More weights than this take minutes to fit; their bias alone is fitted."""


def fit_last_product(
    model: ir.Model, ctx: PassContext, parts: int, *, with_weights: bool
) -> Skip | None:
    """Change bias and weights in place, or say why not.

    Args:
        model: A classifier.
        ctx: The rows, their labels, and what runs them.
        parts: In so many parts the rows are cut; each judges what was fitted to the others.
        with_weights: Whether weights may change, beside the bias.

    Raises:
        UsageError: The labels are no numbers of classes.
    """
    if ctx.labels is None or not ctx.calibration or ctx.run is None:
        return Skip(NO_LABELS)
    value, place = scores_of(model)
    classes = math.prod(ir.static_shape(value)[1:]) if value is not None else 0
    if value is None or classes < 2:
        return Skip(NO_CLASSES)
    old = ir.constant_array(place.constant) if place is not None else None
    if place is None or (old is not None and old.size not in (1, classes)):
        return Skip(NO_BIAS)
    labels = checked_labels(ctx.labels, classes)
    last = _last_product(place) if with_weights else None
    read = last.node.inputs[0] if last is not None else None
    names = [str(v.name) for v in (value, read) if v is not None]
    piece = ir.extract(model, [str(v.name) for v in model.graph.inputs], names)
    outputs = run_rows(piece, ctx.calibration, ctx.run, model)
    scores = np.asarray(outputs[names[0]], np.float64).reshape(-1, classes)
    if len(scores) != len(labels):
        return Skip(NO_CLASSES)
    seen = _Inputs.of(outputs[names[-1]] if last is not None else None, len(scores))
    penalties = _penalties(scores, seen.scaled, labels, parts, ctx.seed)
    if penalties == _PLAIN:
        return Skip(NO_GAIN)
    _change(model, place, last, seen, fit_linear(scores, seen.scaled, labels, penalties))
    return None


def _penalties(scores: Scores, inputs: Scores, labels: Labels, parts: int, seed: int) -> Penalties:
    """Under which the labels left out are most likely; as it is where none is clearly so."""
    stages = (_BIASES, _WEIGHTS if inputs.shape[1] else ())
    tried = [_PLAIN, *stages[0], *stages[1]]
    losses = {each: np.zeros(len(labels)) for each in tried}
    right = dict.fromkeys(tried, 0)
    for fitted_on, left_out in folds(len(labels), parts, seed):
        for each in tried:
            found = fit_linear(scores[fitted_on], inputs[fitted_on], labels[fitted_on], each)
            told = found.told(scores[left_out], inputs[left_out])
            truth = labels[left_out]
            losses[each][left_out] = -told[np.arange(len(truth)), truth]
            right[each] += int((told.argmax(axis=1) == truth).sum())
    best = _PLAIN
    for stage in stages:
        better = [
            each
            for each in stage
            if right[each] >= right[best]
            and _is_better(losses[each], losses[best], losses[_PLAIN])
        ]
        best = min(better, key=lambda each: float(losses[each].mean()), default=best)
    return best


def _is_better(
    losses: NDArray[np.float64], known: NDArray[np.float64], plain: NDArray[np.float64]
) -> bool:
    """Whether labels are likelier than so far, and clearly so than without any fit."""
    gains = plain - losses
    is_clear = gains.mean() > gains.std() / math.sqrt(len(gains))
    return bool(is_clear and losses.mean() < known.mean())


@dataclass(frozen=True)
class _Inputs:
    """What the last product reads, around its mean and in units of its common deviation.

    Attributes:
        scaled: (rows, inputs); no columns where the weights stay as they are.
    """

    scaled: Scores
    mean: NDArray[np.float64]
    deviation: float

    @classmethod
    def of(cls, array: ir.Array | None, rows: int) -> _Inputs:
        values = np.zeros((rows, 0)) if array is None else np.asarray(array, np.float64)
        values = values.reshape(rows, -1)
        mean = values.mean(axis=0)
        deviation = math.sqrt(float(values.var(axis=0).mean())) if values.size else 1.0
        return cls((values - mean) / (deviation or 1.0), mean, deviation or 1.0)


def _last_product(place: ProductBias) -> Product | None:
    """The product whose outputs are the scores, where its weights can be fitted."""
    node: ir.Node | None = place.node
    if place.node.op_type == "Add":
        value = place.node.inputs[1 - place.index]
        node = value.producer() if value is not None and ir.only_reader(value) else None
    found = product_of(node) if node is not None and node.op_type in ("Gemm", "MatMul") else None
    if found is None or why_not_fitted(found):
        return None
    return found if weight_matrix(found).size <= _MOST_WEIGHTS else None


def _change(
    model: ir.Model, place: ProductBias, last: Product | None, seen: _Inputs, found: Linear
) -> None:
    """Correct weights and bias: softmax(t · z + ...) chooses what z + ... / t does."""
    weights = found.weights / (found.temperature * seen.deviation)
    if last is not None and weights.any():
        store_weights(last, weight_matrix(last) + weights)
    add_bias(model, place, found.bias / found.temperature - seen.mean @ weights)
