"""Training from data loaders."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

from gcompile.errors import UsageError  # noqa: E402
from gcompile.train import find_ticket, fine_tune  # noqa: E402
from tests.train.networks import context, digits, labelled_rows, outputs  # noqa: E402
from tests.train.test_fine_tune import QUICK, pruned  # noqa: E402

pytestmark = pytest.mark.torch


def loader_of(count: slice, *, shuffle: bool = False) -> DataLoader:
    rows, labels = labelled_rows()
    data = TensorDataset(torch.from_numpy(rows[count]), torch.from_numpy(labels[count]))
    generator = torch.Generator().manual_seed(0)
    return DataLoader(data, batch_size=16, shuffle=shuffle, generator=generator)


def test_a_loader_trains_and_another_judges() -> None:
    model, whole = pruned()
    train, others = loader_of(slice(200), shuffle=True), loader_of(slice(200, 300))
    found = fine_tune(model, train, validation=others, options=QUICK, teacher=whole)
    assert found.trained_rows == 200 * QUICK.epochs
    assert found.teacher_rows == 200 * QUICK.epochs
    assert found.forward_rows == 200 * QUICK.epochs + 100 * (QUICK.epochs + 1)
    assert found.best.accuracy > found.epochs[0].accuracy + 0.1
    rows, labels = labelled_rows()
    right = (outputs(model, rows[200:300]).argmax(1) == labels[200:300]).mean()
    assert right == pytest.approx(found.best.accuracy, abs=0.011)


def test_a_ticket_can_be_found_with_loaders() -> None:
    model = digits(context())
    ticket = find_ticket(
        model, loader_of(slice(160)), validation=loader_of(slice(160, 240)),
        rounds=1, share=0.5, options=replace(QUICK, epochs=1),
    )  # fmt: skip
    assert ticket.sparsity == pytest.approx(0.5, abs=0.01)


def test_a_loader_needs_another_to_judge_by() -> None:
    with pytest.raises(UsageError, match="needs another to judge by"):
        fine_tune(digits(context()), loader_of(slice(32)), options=QUICK)


def test_an_array_needs_labels() -> None:
    with pytest.raises(UsageError, match="need labels"):
        fine_tune(digits(context()), labelled_rows()[0], options=QUICK)


def test_batches_of_another_shape_and_none_are_refused() -> None:
    wrong = DataLoader(TensorDataset(torch.zeros(4, 3), torch.zeros(4)), batch_size=2)
    with pytest.raises(UsageError, match=r"Rows have the shape \(3,\), the model reads"):
        fine_tune(digits(context()), wrong, validation=wrong, options=QUICK)
    with pytest.raises(UsageError, match="yields no batches"):
        fine_tune(digits(context()), loader_of(slice(32)), validation=loader_of(slice(0)))
