from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes import PassContext
from gcompile.passes.labels.fit_bias import FitBias
from tests.passes.precision.models import context, fused

CLASSES = 5
LEANING = np.array([1.5, 0.0, 0.0, -1.0, 0.0], np.float32)
"""What the scores are off by."""
GEMM = "y = Gemm(x, w, b)"
HEADS = {
    "gemm": GEMM,
    "no bias": "y = Gemm(x, w)",
    "add": "p = MatMul(x, w) y = Add(p, b)",
    "softmax": "z = Gemm(x, w, b) y = Softmax<axis = -1>(z)",
}


def network(head: str = GEMM) -> ir.Model:
    lines = head.replace(") ", ")\n").splitlines()
    text = "\n".join(lines)
    return fused(
        f"""g (float[1,8] x) => (float[1,{CLASSES}] y)
        <float[8,{CLASSES}] w, float[{CLASSES}] b> {{
            {text}
        }}"""
    )


def scores(model: ir.Model, rows: dict[str, ir.Array]) -> NDArray[np.float64]:
    run = context(model).run
    assert run is not None
    found = [run(model, {"x": row[None]})["y"] for row in np.asarray(rows["x"])]
    return np.concatenate(found).astype(np.float64)


def labelled(model: ir.Model, count: int, seed: int = 1) -> tuple[PassContext, NDArray[np.int64]]:
    """Rows whose labels the scores of a model would tell, but for what they are off by."""
    ctx = context(model, rows=count, seed=seed)
    assert ctx.calibration is not None
    told = scores(model, dict(ctx.calibration))
    if np.allclose(told.sum(axis=1), 1):
        told = np.log(told)
    noise = np.random.default_rng(seed).gumbel(size=told.shape) / 4
    labels = (told - LEANING + noise).argmax(axis=1)
    return replace(ctx, labels=labels), labels


@pytest.mark.parametrize("head", HEADS)
def test_fresh_rows_are_classified_better_for_the_same_joules(head: str) -> None:
    model = network(HEADS[head])
    ctx, _ = labelled(model, 120)
    fresh, truth = labelled(model, 200, seed=2)
    assert fresh.calibration is not None
    rows = dict(fresh.calibration)
    before = (scores(model, rows).argmax(axis=1) == truth).mean()
    record = FitBias().apply(model, ctx)
    assert record.changed == 1
    assert (scores(model, rows).argmax(axis=1) == truth).mean() > before + 0.05
    assert record.after.total.energy_j == pytest.approx(record.before.total.energy_j, rel=0.02)
    assert FitBias().apply(model, ctx).changed == 0


def test_scores_that_lean_nowhere_stay_as_they_are() -> None:
    model = network()
    ctx = context(model, rows=200)
    assert ctx.calibration is not None
    told = scores(model, dict(ctx.calibration))
    labels = (told + np.random.default_rng(0).gumbel(size=told.shape)).argmax(axis=1)
    record = FitBias().apply(model, replace(ctx, labels=labels))
    assert record.changed == 0
    assert record.skipped == {"labels that it was not fitted to are hardly more likely with it": 1}


@pytest.mark.parametrize(
    ("head", "labels", "reason"),
    [
        (GEMM, None, "no labels were given"),
        ("s = Sigmoid(x) p = MatMul(s, w) y = Relu(p)", np.zeros(24, np.int64), "no constant"),
    ],
)
def test_a_refusal_has_its_reason(
    head: str, labels: NDArray[np.int64] | None, reason: str
) -> None:
    model = network(head)
    record = FitBias().apply(model, replace(context(model), labels=labels))
    assert record.changed == 0
    (found,) = record.skipped
    assert reason in found


@pytest.mark.parametrize("labels", [np.full(24, CLASSES), np.zeros(24), np.zeros((24, 2), int)])
def test_labels_that_are_no_classes_are_refused(labels: NDArray[np.generic]) -> None:
    model = network()
    with pytest.raises(UsageError, match="integers below 5"):
        FitBias().apply(model, replace(context(model), labels=labels))
