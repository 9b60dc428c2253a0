"""Say how good outputs are: against labels, or against the outputs of another model."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from gcompile.errors import UnknownNameError, UsageError
from gcompile.passes import Arrays
from gcompile.passes.precision import of_one_size

Array = NDArray[np.generic]

Metric = Callable[[dict[str, Array], Array], float]
"""Takes all outputs by name and the labels; higher is better."""


def top1(outputs: dict[str, Array], labels: Array) -> float:
    """The fraction of rows whose largest score, over the last axis of the first output, is right.

    Raises:
        UsageError: Scores and labels do not have the same number of rows.
    """
    scores = next(iter(outputs.values()))
    guesses = np.asarray(scores).argmax(axis=-1)
    if guesses.shape != labels.shape:
        raise UsageError(
            f"top1 compares one label per row: the scores have shape {scores.shape} and the "
            f"labels {labels.shape}. Give a metric of your own with --metric module:function."
        )
    return float((guesses == labels).mean())


METRICS: Mapping[str, Metric] = {"top1": top1}


def load_metric(name: str) -> Metric:
    """Find a metric by name, or import the user's `module:function`.

    Raises:
        UsageError: The name is not known, or the function cannot be imported.
    """
    if name in METRICS:
        return METRICS[name]
    module_name, colon, function_name = name.partition(":")
    if not colon:
        raise UnknownNameError("metric", name, [*METRICS, "module:function"])
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"Metric {name!r} cannot be imported: {error}.") from error
    if not callable(function):
        raise UsageError(f"Metric {name!r} is not a function f(outputs, labels) -> float.")
    return _checked(name, function)


def signal_to_noise_db(expected: Arrays, actual: Arrays) -> float:
    """10 · log10(signal power / noise power) over all float outputs; infinite where equal."""
    signal = noise = 0.0
    for name, array in expected.items():
        reference, found = of_one_size(array, actual[name])
        signal += float((reference**2).sum())
        noise += float(((found - reference) ** 2).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(max(signal, 1e-300) / noise)


def cosine(expected: Arrays, actual: Arrays) -> float:
    """The cosine of the angle between all outputs seen as one vector; 1 is the same direction."""
    pairs = [of_one_size(array, actual[name]) for name, array in expected.items()]
    a, b = (np.concatenate([pair[side].reshape(-1) for pair in pairs]) for side in (0, 1))
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b))


def _checked(name: str, function: Callable[..., object]) -> Metric:
    def metric(outputs: dict[str, Array], labels: Array) -> float:
        score = function(outputs, labels)
        if not isinstance(score, (int, float, np.number)) or not math.isfinite(float(score)):
            raise UsageError(f"Metric {name!r} returned {score!r}; it must return a finite float.")
        return float(score)

    return metric
