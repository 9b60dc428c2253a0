"""Fit the bias of a classifier to labelled rows: no weight moves, and no joule is spent more.

The scores of most classifiers lean towards some classes on the images or sounds they meet in use.
A constant per class takes that back, and a few hundred rows with labels say which. Rows left out
in turn decide how hard it is held back; it is fitted only where it makes their labels more likely,
by more than the standard error of that, and no fewer of them the largest score.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Numerics, Pass, PassContext, Skip
from gcompile.passes.labels.logistic import Labels, Scores, fit_bias
from gcompile.passes.precision.run_rows import run_rows
from gcompile.passes.product_bias import ProductBias, bias_of

_FITTED = "gcompile.fitted_bias"
_PENALTIES = (math.inf, 1e-1, 1e-2, 1e-3)
_MONOTONE = ("Softmax", "LogSoftmax", "Identity")
_NO_LABELS = "no labels were given beside the calibration rows"
_NO_CLASSES = "the model does not make one row of scores, one for each class"
_NO_BIAS = "no constant can be added to the scores at no cost"
_NO_GAIN = "labels that it was not fitted to are hardly more likely with it"


@dataclass(frozen=True)
class FitBias(Pass):
    """Fit the bias of the scores of a classifier to labels given beside the calibration rows.

    Attributes:
        folds: In so many parts the rows are cut; each judges what was fitted to the others.
    """

    name: ClassVar[str] = "fit-bias"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    folds: int = 5

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise UsageError(f"folds={self.folds} must be 2 or more.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        if _FITTED in model.graph.metadata_props:
            return 0
        found = self._fit(model, ctx)
        if isinstance(found, Skip):
            ctx.skipped[self.name, found.reason] += 1
            return 0
        model.graph.metadata_props[_FITTED] = "1"
        return 1

    def _fit(self, model: ir.Model, ctx: PassContext) -> Skip | None:
        """Change the bias, or say why not."""
        if ctx.labels is None or not ctx.calibration or ctx.run is None:
            return Skip(_NO_LABELS)
        value, place = _scores_of(model)
        classes = math.prod(ir.static_shape(value)[1:]) if value is not None else 0
        if value is None or classes < 2:
            return Skip(_NO_CLASSES)
        old = ir.constant_array(place.constant) if place is not None else None
        if place is None or (old is not None and old.size not in (1, classes)):
            return Skip(_NO_BIAS)
        labels = _checked(ctx.labels, classes)
        piece = ir.extract(model, [str(v.name) for v in model.graph.inputs], [str(value.name)])
        outputs = run_rows(piece, ctx.calibration, ctx.run, model)[str(value.name)]
        scores = np.asarray(outputs, np.float64).reshape(-1, classes)
        if len(scores) != len(labels):
            return Skip(_NO_CLASSES)
        penalty = self._penalty(scores, labels, ctx.seed)
        if not math.isfinite(penalty):
            return Skip(_NO_GAIN)
        _add(model, place, fit_bias(scores, labels, penalty).shift)
        return None

    def _penalty(self, scores: Scores, labels: Labels, seed: int) -> float:
        """Under which the labels left out are most likely; infinite where none is clearly so."""
        losses = {penalty: np.zeros(len(labels)) for penalty in _PENALTIES}
        right = dict.fromkeys(_PENALTIES, 0)
        for seen, left_out in self._split(len(labels), seed):
            for penalty in _PENALTIES:
                found = fit_bias(scores[seen], labels[seen], penalty)
                losses[penalty][left_out] = found.losses(scores[left_out], labels[left_out])
                chosen = (scores[left_out] + found.shift).argmax(axis=1)
                right[penalty] += int((chosen == labels[left_out]).sum())
        best = min(losses, key=lambda penalty: float(losses[penalty].mean()))
        gains = losses[math.inf] - losses[best]
        is_clear = gains.mean() > gains.std() / math.sqrt(len(gains))
        return best if is_clear and right[best] >= right[math.inf] else math.inf

    def _split(
        self, count: int, seed: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        order = np.random.default_rng(seed).permutation(count)
        parts = np.array_split(order, min(self.folds, count))
        for index, part in enumerate(parts):
            yield np.concatenate([*parts[:index], *parts[index + 1 :]]), part


def _scores_of(model: ir.Model) -> tuple[ir.Value | None, ProductBias | None]:
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


def _checked(labels: NDArray[np.generic], classes: int) -> Labels:
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


def _add(model: ir.Model, place: ProductBias, shift: NDArray[np.float64]) -> None:
    old = ir.constant_array(place.constant)
    before = np.zeros(1) if old is None else old.astype(np.float64)
    shape = old.shape if old is not None and old.size == shift.size else (shift.size,)
    new = np.broadcast_to(before.reshape(-1), shift.shape) + shift
    name = place.constant.name if place.constant is not None else f"{place.node.name}_bias"
    place.set(
        ir.add_constant(model.graph, f"{name}_fitted", new.reshape(shape).astype(np.float32))
    )
    ir.remove_unused(model)
