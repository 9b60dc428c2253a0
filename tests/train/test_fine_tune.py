"""Training restores what compression took, and says what it did."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")

from gcompile import ir  # noqa: E402
from gcompile.energy import Roofline, estimate  # noqa: E402
from gcompile.errors import UsageError  # noqa: E402
from gcompile.passes.prune.prune_channels import PruneChannels  # noqa: E402
from gcompile.train import (  # noqa: E402
    Epoch,
    FineTuning,
    Trained,
    find_ticket,
    fine_tune,
    recovery_of,
)
from tests.train.networks import (  # noqa: E402
    context,
    digits,
    labelled_rows,
    outputs,
    quantized_digits,
)

pytestmark = pytest.mark.torch

QUICK = FineTuning(epochs=4, batch=16, learning_rate=0.02)


def pruned() -> tuple[ir.Model, ir.Model]:
    """The classifier without half of its channels, and the whole one."""
    ctx = context()
    model, whole = digits(ctx), digits(ctx)
    assert PruneChannels(ratio=0.75, round_to=1, compensate=False).apply(model, ctx).changed
    return model, whole


def test_a_pruned_classifier_learns_again_from_what_it_was() -> None:
    model, whole = pruned()
    rows, labels = labelled_rows()
    before = (outputs(model, rows[:200]).argmax(1) == labels[:200]).mean()
    found = fine_tune(model, rows, labels, QUICK, teacher=whole)
    after = (outputs(model, rows[:200]).argmax(1) == labels[:200]).mean()
    assert before < 0.9 < after
    assert found.best.accuracy > found.epochs[0].accuracy
    assert found.trained_rows == 4 * 647
    assert found.teacher_rows == found.trained_rows
    assert found.forward_rows == found.teacher_rows + 5 * 72


def test_mixtures_of_few_rows_teach_what_the_teacher_says() -> None:
    model, whole = pruned()
    rows, labels = labelled_rows()
    before = (outputs(model, rows[200:]).argmax(1) == labels[200:]).mean()
    options = replace(QUICK, epochs=8, mixup=1.0, distill=1.0)
    fine_tune(model, rows[:200], labels[:200], options, teacher=whole)
    after = (outputs(model, rows[200:]).argmax(1) == labels[200:]).mean()
    assert after > before + 0.1


def test_the_same_arguments_give_the_same_weights() -> None:
    rows, labels = labelled_rows()
    weights = []
    for _ in range(2):
        model, _ = pruned()
        fine_tune(model, rows[:100], labels[:100], replace(QUICK, epochs=1, mixup=0.5))
        weights.append([ir.constant_array(v) for v in model.graph.initializers.values()])
    for first, second in zip(*weights, strict=True):
        np.testing.assert_array_equal(np.asarray(first), np.asarray(second))


@pytest.mark.parametrize("relaxed", [False, True])
def test_a_quantized_graph_trains_with_its_rounding(relaxed: bool) -> None:
    ctx = context()
    model, whole = quantized_digits(ctx), digits(ctx)
    rows, labels = labelled_rows()
    options = replace(QUICK, epochs=2, learning_rate=0.001, relaxed=relaxed)
    found = fine_tune(model, rows, labels, options, teacher=whole)
    assert found.best.accuracy >= found.epochs[0].accuracy
    assert (outputs(model, rows[:100]).argmax(1) == labels[:100]).mean() > 0.95


def test_training_stops_when_nothing_gets_better_and_keeps_the_best() -> None:
    model = digits(context())
    rows, labels = labelled_rows()
    wild = FineTuning(epochs=9, learning_rate=5.0, momentum=0.0, patience=2)
    found = fine_tune(model, rows[:80], labels[:80], wild)
    assert len(found.epochs) < 10
    assert found.best.accuracy == max(epoch.accuracy for epoch in found.epochs)


def test_a_ticket_is_as_sparse_as_asked_and_works() -> None:
    model = digits(context())
    rows, labels = labelled_rows()
    ticket = find_ticket(
        model, rows, labels, rounds=2, share=0.5, options=replace(QUICK, epochs=3)
    )
    assert ticket.sparsity == pytest.approx(0.75, abs=0.01)
    assert len(ticket.rounds) == 3
    for name, mask in ticket.masks.items():
        weights = ir.constant_array(model.graph.initializers[name])
        assert weights is not None
        assert not np.asarray(weights)[mask.numpy() == 0].any()
    assert ticket.rounds[-1].best.accuracy > 0.9


@pytest.mark.parametrize(
    ("rows", "labels", "reason"),
    [
        (np.zeros((4, 1, 9, 8), np.float32), np.zeros(4, np.int64), "Rows have the shape"),
        (np.zeros((4, 1, 8, 8), np.float32), np.zeros(3, np.int64), "4 rows and 3 labels"),
    ],
)
def test_rows_that_do_not_fit_are_refused(
    rows: np.ndarray, labels: np.ndarray, reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        fine_tune(digits(context()), rows, labels)


@pytest.mark.parametrize(
    "options", [{"epochs": 0}, {"held_out": 1.0}, {"distill": 2.0}, {"learning_rate": 0.0}]
)
def test_options_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        FineTuning(**options)  # type: ignore[arg-type]


def test_a_recovery_pays_after_so_many_inferences() -> None:
    ctx = context()
    model = digits(ctx)
    row_j = estimate(model, ctx.target, Roofline(), 1).total.energy_j
    epoch = Epoch(1, 0.0, 1.0)
    found = Trained((epoch,), epoch, trained_rows=100, forward_rows=50, teacher_rows=40)
    cost = recovery_of(found, model, ctx.target, teacher=model, before_j=3e-6, after_j=1e-6)
    assert cost.energy_j == pytest.approx((3 * 100 + 10 + 40) * row_j)
    assert cost.break_even == pytest.approx(cost.energy_j / 2e-6)
    nothing = recovery_of(found, model, ctx.target, before_j=1e-6, after_j=1e-6)
    assert nothing.break_even == math.inf
