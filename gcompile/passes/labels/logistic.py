"""Multinomial logistic regression on top of the scores of a classifier.

    minimize over b, V, t:
        mean of -log softmax(t · z + x · V + b)[label]  +  λ |b|² / 2  +  μ |V|² / 2

The problem is convex: its solution does not depend on where one starts. Adding (x · V + b) / t to
the scores z chooses the classes that the solution chooses. With b and V at 0 it is temperature
scaling (Guo et al., "On Calibration of Modern Neural Networks", 2017); the bias allows for classes
that are more or less frequent than the scores believe (Saerens et al., "Adjusting the Outputs of
a Classifier to New a Priori Probabilities", 2002); V corrects the weights on the inputs x.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Penalties:
    """How hard a solution is held back; what has an infinite penalty stays at 0.

    Attributes:
        bias: λ.
        weights: μ.
    """

    bias: float
    weights: float


@dataclass(frozen=True)
class Linear:
    """A solution.

    Attributes:
        bias: (classes,) b.
        weights: (inputs, classes) V.
        temperature: The factor t, above 0.
    """

    bias: NDArray[np.float64]
    weights: NDArray[np.float64]
    temperature: float

    def told(self, scores: Scores, inputs: Scores) -> Scores:
        """(rows, classes) The logarithm of how likely each class is."""
        from scipy.special import log_softmax

        found = self.temperature * scores + inputs @ self.weights + self.bias
        return np.asarray(log_softmax(found, axis=1), np.float64)


def fit_linear(scores: Scores, inputs: Scores, labels: Labels, penalties: Penalties) -> Linear:
    """Solve it.

    Args:
        scores: (rows, classes) z.
        inputs: (rows, inputs) x; there may be none.
        labels: (rows,) classes.
        penalties: λ and μ.
    """
    from scipy.optimize import minimize  # Few builds have labels: a third of a second.
    from scipy.special import log_softmax

    classes, width = scores.shape[1], inputs.shape[1]
    truth = np.eye(classes)[labels]
    held = np.append(penalties.bias, np.full(width, penalties.weights))[:, None]
    free = np.isfinite(held)
    with_ones = np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)
    used = with_ones[:, free[:, 0]]
    held = held[free][:, None]

    def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        changes, temperature = x[:-1].reshape(-1, classes), float(np.exp(x[-1]))
        told = log_softmax(temperature * scores + used @ changes, axis=1)
        error = (np.exp(told) - truth) / len(labels)
        slope = used.T @ error + held * changes
        value = -(told * truth).sum() / len(labels) + float((held * changes**2).sum()) / 2
        return float(value), np.append(slope, temperature * (error * scores).sum())

    start = np.zeros(len(held) * classes + 1)
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", options={"ftol": 1e-13, "gtol": 1e-8}
    ).x
    changes = np.zeros((width + 1, classes))
    changes[free[:, 0]] = found[:-1].reshape(-1, classes)
    return Linear(changes[0], changes[1:], float(np.exp(found[-1])))
