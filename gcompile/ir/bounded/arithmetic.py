"""Arithmetic on sizes: what exporters write around shapes, element by element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gcompile.ir.bounded.sizes import Numbers, largest_of, least_of
from gcompile.ir.bounded.step import CannotBoundError, Result, Step


def gather(step: Step) -> Sequence[Result]:
    """Some of the numbers."""
    index = step.known(1)
    if index is None:
        raise CannotBoundError("it picks a size by a computed number")
    picked = np.asarray(step.numbers(0), object)[index]
    return [step.fixed(_array(picked))]


def cut(step: Step) -> Sequence[Result]:
    """A part of a row of numbers."""
    begin, end, axes, by = (step.known(index) for index in range(1, 5))
    numbers = step.numbers(0)
    if begin is None or end is None or begin.size != 1 or numbers.ndim != 1:
        raise CannotBoundError("it cuts sizes by computed numbers")
    del axes  # A row has one.
    part = slice(int(begin[0]), int(end[0]), 1 if by is None else int(by[0]))
    return [step.fixed(numbers[part])]


def join(step: Step) -> Sequence[Result]:
    """Rows of numbers one after the other."""
    rows = [step.numbers(index) for index in range(len(step.node.inputs))]
    return [step.fixed(np.concatenate(rows))]


def same(step: Step) -> Sequence[Result]:
    """The same numbers in another type."""
    return [step.fixed(step.numbers(0))]


def reshape(step: Step) -> Sequence[Result]:
    """The same numbers in another shape, which the output has already."""
    shape = step.node.outputs[0].shape
    if shape is None or not shape.is_static():
        raise CannotBoundError("it puts sizes into a computed shape")
    return [step.fixed(step.numbers(0).reshape(tuple(shape.numpy())))]


def combine(function: Callable[[Any, Any], Any]) -> Callable[[Step], Sequence[Result]]:
    """Arithmetic of two or more."""

    def rule(step: Step) -> Sequence[Result]:
        found = step.numbers(0)
        for index in range(1, len(step.node.inputs)):
            try:
                found = _array(np.frompyfunc(function, 2, 1)(found, step.numbers(index)))
            except (TypeError, ZeroDivisionError) as error:
                raise CannotBoundError("it divides by a size that is counted") from error
        return [step.fixed(found)]

    return rule


def _array(found: Any) -> Numbers:
    if isinstance(found, np.ndarray):
        return found
    array = np.empty((), object)
    array[()] = found
    return array


ARITHMETIC = {
    "Gather": gather,
    "Slice": cut,
    "Concat": join,
    "Identity": same,
    "Cast": same,
    "Squeeze": reshape,
    "Unsqueeze": reshape,
    "Reshape": reshape,
    "Add": combine(lambda a, b: a + b),
    "Sub": combine(lambda a, b: a - b),
    "Mul": combine(lambda a, b: a * b),
    "Div": combine(lambda a, b: a // b),
    "Min": combine(least_of),
    "Max": combine(largest_of),
}
