"""The solution of the regression is where no change is better."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gcompile.passes.labels.logistic import Labels, Linear, Penalties, Scores, fit_linear

ROWS, CLASSES = 60, 5


def objective(
    z: Scores, x: Scores, labels: Labels, penalties: Penalties, solution: Linear
) -> float:
    exact = solution.temperature * z + x @ solution.weights + solution.bias
    told = exact - np.log(np.exp(exact).sum(axis=1, keepdims=True))
    held = 0.0
    parts = (penalties.bias, solution.bias), (penalties.weights, solution.weights)
    for penalty, part in parts:
        held += penalty * float((part**2).sum()) if part.any() else 0.0
    return float(-told[range(len(z)), labels].mean() + held / 2)


@pytest.mark.parametrize("bias", [1e-3, 1e-1, math.inf])
@pytest.mark.parametrize("weights", [0.3, math.inf])
@pytest.mark.parametrize("width", [4, 0])
def test_no_change_is_better(bias: float, weights: float, width: int) -> None:
    rng = np.random.default_rng(3)
    z, x = rng.normal(size=(ROWS, CLASSES)) * 2, rng.normal(size=(ROWS, width))
    labels, penalties = rng.integers(0, CLASSES, ROWS), Penalties(bias, weights)
    found = fit_linear(z, x, labels, penalties)
    assert found.weights.shape == (width, CLASSES)
    assert found.bias.any() == math.isfinite(bias)
    assert found.weights.any() == (math.isfinite(weights) and width > 0)
    best = objective(z, x, labels, penalties, found)

    def moved(part: NDArray[np.float64], penalty: float) -> NDArray[np.float64]:
        return part + rng.normal(size=part.shape) * (0.05 if math.isfinite(penalty) else 0.0)

    for _ in range(50):
        factor = float(found.temperature * np.exp(rng.normal() * 0.05))
        changed = Linear(moved(found.bias, bias), moved(found.weights, weights), factor)
        assert objective(z, x, labels, penalties, changed) >= best - 1e-7


def test_scores_that_say_nothing_are_scaled_down() -> None:
    z = np.random.default_rng(1).normal(size=(400, CLASSES))
    labels = np.arange(400) % CLASSES
    nothing = np.zeros((400, 0))
    found = fit_linear(z, nothing, labels, Penalties(math.inf, math.inf))
    assert found.temperature < 0.3
    assert -found.told(z, nothing)[range(400), labels].mean() <= np.log(CLASSES) + 1e-6
