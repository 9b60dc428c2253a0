from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.labels.fit_classifier import FitClassifier
from tests.passes.labels.test_fit_bias import CLASSES, HEADS, labelled, network, scores
from tests.passes.precision.models import context

TURN = np.random.default_rng(5).normal(size=(8, CLASSES)) * 0.6
"""What the weights are off by."""


def truth_of(model: ir.Model, rows: ir.Array, seed: int) -> NDArray[np.int64]:
    """Labels that the scores would tell, but for what the weights are off by."""
    told = scores(model, {"x": rows})
    if np.allclose(told.sum(axis=1), 1):
        told = np.log(told)
    noise = np.random.default_rng(seed).gumbel(size=told.shape) / 4
    return np.asarray((told + np.asarray(rows, np.float64) @ TURN + noise).argmax(axis=1))


@pytest.mark.parametrize("head", HEADS)
def test_fresh_rows_are_classified_better_than_by_a_bias(head: str) -> None:
    model = network(HEADS[head])
    ctx, fresh = (context(model, rows=count, seed=seed) for count, seed in ((300, 1), (300, 2)))
    assert ctx.calibration is not None
    assert fresh.calibration is not None
    seen, rows = np.asarray(ctx.calibration["x"]), np.asarray(fresh.calibration["x"])
    truth = truth_of(model, rows, 2)
    ctx = replace(ctx, labels=truth_of(model, seen, 1))
    before = (scores(model, {"x": rows}).argmax(axis=1) == truth).mean()
    record = FitClassifier().apply(model, ctx)
    assert record.changed == 1
    after = (scores(model, {"x": rows}).argmax(axis=1) == truth).mean()
    assert after > before + 0.1
    assert record.after.total.energy_j == pytest.approx(record.before.total.energy_j, rel=0.02)
    assert FitClassifier().apply(model, ctx).changed == 0


def test_scores_that_lean_alone_are_fitted_as_well() -> None:
    model = network()
    ctx, _ = labelled(model, 120)
    fresh, truth = labelled(model, 200, seed=2)
    assert fresh.calibration is not None
    rows = dict(fresh.calibration)
    before = (scores(model, rows).argmax(axis=1) == truth).mean()
    assert FitClassifier().apply(model, ctx).changed == 1
    assert (scores(model, rows).argmax(axis=1) == truth).mean() > before + 0.05


def test_scores_that_are_right_stay_as_they_are() -> None:
    model = network()
    ctx = context(model, rows=200)
    assert ctx.calibration is not None
    told = scores(model, dict(ctx.calibration))
    labels = (told + np.random.default_rng(0).gumbel(size=told.shape)).argmax(axis=1)
    record = FitClassifier().apply(model, replace(ctx, labels=labels))
    assert record.changed == 0
    assert record.skipped == {"labels that it was not fitted to are hardly more likely with it": 1}


def test_a_refusal_has_its_reason() -> None:
    model = network()
    record = FitClassifier().apply(model, replace(context(model), labels=None))
    assert record.changed == 0
    assert record.skipped == {"no labels were given beside the calibration rows": 1}
