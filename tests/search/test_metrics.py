from __future__ import annotations

import math

import numpy as np
import pytest

from gcompile import ir
from gcompile.errors import UnknownNameError, UsageError
from gcompile.search import cosine, load_metric, signal_to_noise_db, top1

SCORES: dict[str, ir.Array] = {"y": np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])}


def half(outputs: dict[str, ir.Array], labels: ir.Array) -> float:
    """A user's metric."""
    return 0.5 + 0.0 * len(labels) * len(outputs)


def wrong(outputs: dict[str, ir.Array], labels: ir.Array) -> float:
    """A user's metric that fails."""
    return math.nan


def test_top1_counts_the_rows_whose_largest_score_is_right() -> None:
    assert top1(SCORES, np.array([1, 0, 0])) == pytest.approx(2 / 3)


def test_top1_refuses_labels_of_another_shape() -> None:
    with pytest.raises(UsageError, match="one label per row"):
        top1(SCORES, np.array([1, 0]))


def test_a_metric_is_found_by_name_or_imported() -> None:
    assert load_metric("top1") is top1
    assert load_metric(f"{__name__}:half")(SCORES, np.zeros(3)) == 0.5


def test_an_unknown_metric_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="module:function, top1"):
        load_metric("f1")


@pytest.mark.parametrize("name", ["no.such.module:f", f"{__name__}:missing", f"{__name__}:SCORES"])
def test_a_metric_that_cannot_be_imported_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="Metric"):
        load_metric(name)


def test_a_metric_must_return_a_finite_number() -> None:
    with pytest.raises(UsageError, match="returned nan"):
        load_metric(f"{__name__}:wrong")(SCORES, np.zeros(3))


def test_ten_percent_of_noise_amplitude_is_20_db() -> None:
    want = {"y": np.ones(100)}
    assert signal_to_noise_db(want, {"y": np.full(100, 1.1)}) == pytest.approx(20.0)
    assert signal_to_noise_db(want, want) == math.inf


def test_cosine_is_one_for_the_same_direction_and_zero_for_a_right_angle() -> None:
    assert cosine({"y": np.array([1.0, 2.0])}, {"y": np.array([3.0, 6.0])}) == pytest.approx(1.0)
    assert cosine({"y": np.array([1.0, 0.0])}, {"y": np.array([0.0, 2.0])}) == pytest.approx(0.0)
    assert cosine({"y": np.zeros(2)}, {"y": np.zeros(2)}) == 1.0
