"""Multinomial logistic regression of a bias and a temperature on scores.

    minimize over b, t:   mean of -log softmax(t · z + b)[label]  +  λ |b|² / 2

The problem is convex: its solution does not depend on where one starts. Adding b / t to the
scores z chooses the classes that the solution chooses. With b = 0 it is temperature scaling (Guo
et al., "On Calibration of Modern Neural Networks", 2017); the bias allows for classes that are
more or less frequent than the scores believe (Saerens et al., "Adjusting the Outputs of a
Classifier to New a Priori Probabilities", 2002).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Logistic:
    """A solution.

    Attributes:
        bias: (classes,) b.
        temperature: The factor t, above 0.
    """

    bias: NDArray[np.float64]
    temperature: float

    @property
    def shift(self) -> NDArray[np.float64]:
        """(classes,) What to add to the scores themselves."""
        return np.asarray(self.bias / self.temperature, np.float64)

    def losses(self, scores: Scores, labels: Labels) -> NDArray[np.float64]:
        """The negative log-likelihood of each label, in nats."""
        from scipy.special import log_softmax

        told = log_softmax(self.temperature * scores + self.bias, axis=1)
        return np.asarray(-told[np.arange(len(labels)), labels], np.float64)


def fit_bias(scores: Scores, labels: Labels, penalty: float) -> Logistic:
    """Solve for (rows, classes) scores and (rows,) labels; an infinite penalty keeps b at 0."""
    from scipy.optimize import minimize  # Few builds have labels: a third of a second.
    from scipy.special import log_softmax

    classes = scores.shape[1]
    truth = np.eye(classes)[labels]
    free = np.isfinite(penalty)

    def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        bias, temperature = x[:classes], float(np.exp(x[classes]))
        told = log_softmax(temperature * scores + bias, axis=1)
        error = (np.exp(told) - truth) / len(labels)
        slope = error.sum(axis=0) + penalty * bias if free else np.zeros(classes)
        value = -(told * truth).sum() / len(labels)
        value += penalty * float(bias @ bias) / 2 if free else 0.0
        return float(value), np.append(slope, temperature * (error * scores).sum())

    found = minimize(objective, np.zeros(classes + 1), jac=True, method="L-BFGS-B").x
    return Logistic(found[:classes], float(np.exp(found[classes])))


@dataclass(frozen=True)
class Linear:
    """A solution with weights.

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


def fit_linear(
    scores: Scores, inputs: Scores, labels: Labels, penalty: float, weight_penalty: float
) -> Linear:
    """Minimise mean of -log softmax(t · z + x · V + b)[label] + λ |b|² / 2 + μ |V|² / 2.

    Convex as well: the scores z are those of a classifier whose weights on x are corrected by V.

    Args:
        scores: (rows, classes) z.
        inputs: (rows, inputs) x.
        labels: (rows,) classes.
        penalty: λ.
        weight_penalty: μ.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    classes, width = scores.shape[1], inputs.shape[1]
    truth = np.eye(classes)[labels]
    held = np.append(penalty, np.full(width, weight_penalty))[:, None]
    with_ones = np.concatenate([np.ones((len(inputs), 1)), inputs], axis=1)

    def objective(x: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        changes, temperature = x[:-1].reshape(width + 1, classes), float(np.exp(x[-1]))
        told = log_softmax(temperature * scores + with_ones @ changes, axis=1)
        error = (np.exp(told) - truth) / len(labels)
        slope = with_ones.T @ error + held * changes
        value = -(told * truth).sum() / len(labels) + float((held * changes**2).sum()) / 2
        return float(value), np.append(slope, temperature * (error * scores).sum())

    start = np.zeros((width + 1) * classes + 1)
    found = minimize(objective, start, jac=True, method="L-BFGS-B").x
    changes = found[:-1].reshape(width + 1, classes)
    return Linear(changes[0], changes[1:], float(np.exp(found[-1])))
