"""Sizes that are counted while a model runs, and what is known of them before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir
from numpy.typing import NDArray

UNLIMITED = 1 << 62
"""The most that a number may be of which nothing is known."""


@dataclass(frozen=True)
class Number:
    """A number that is computed while the model runs.

    Attributes:
        most: What it never exceeds.
        key: How it is computed: numbers of equal keys are equal.
    """

    most: int
    key: str

    def __add__(self, other: int | Number) -> Number:
        """The sum."""
        return Number(self.most + most(other), f"({self.key}+{key_of(other)})")

    __radd__ = __add__

    def __sub__(self, other: int | Number) -> Number:
        """The difference, at most the minuend."""
        less = other if isinstance(other, int | np.integer) else 0
        return Number(self.most - int(less), f"({self.key}-{key_of(other)})")

    def __mul__(self, other: int | Number) -> Number:
        """The product of numbers that are not negative."""
        return Number(self.most * most(other), f"({self.key}*{key_of(other)})")

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> Number:
        """The quotient, rounded down."""
        return Number(self.most // int(other), f"({self.key}/{other})")


def most(number: int | Number) -> int:
    """What a number never exceeds."""
    return number.most if isinstance(number, Number) else int(number)


def key_of(number: int | Number) -> str:
    """How a number is computed."""
    return number.key if isinstance(number, Number) else str(int(number))


def least_of(left: int | Number, right: int | Number) -> int | Number:
    """The smaller of two numbers."""
    if not isinstance(left, Number) and not isinstance(right, Number):
        return min(left, right)
    if key_of(left) == key_of(right):
        return left
    return Number(min(most(left), most(right)), f"min({key_of(left)},{key_of(right)})")


def largest_of(left: int | Number, right: int | Number) -> int | Number:
    """The larger of two numbers."""
    if not isinstance(left, Number) and not isinstance(right, Number):
        return max(left, right)
    if key_of(left) == key_of(right):
        return left
    return Number(max(most(left), most(right)), f"max({key_of(left)},{key_of(right)})")


Numbers = NDArray[np.object_]
"""The elements of a small tensor: each an `int`, or a `Number`."""


@dataclass(frozen=True)
class Size:
    """How many elements along an axis count; those after them are filled up.

    Attributes:
        most: The size of the buffer.
        key: How the count is computed: counts of equal keys are equal.
        count: The value that says how many, int64 of shape (1,).
    """

    most: int
    key: str
    count: onnx_ir.Value


@dataclass(frozen=True)
class Bounded:
    """What is known of a buffer.

    Attributes:
        axes: The axes along which only some elements count.
        is_clean: The others are zeros, or read from zeros: valid as indices.
    """

    axes: Mapping[int, Size] = field(default_factory=dict)
    is_clean: bool = False

    def moved(
        self, place: Callable[[int], int | None], *, is_clean: bool | None = None
    ) -> Bounded:
        """The axes at other places; those without a place are gone."""
        found = {place(axis): size for axis, size in self.axes.items()}
        kept = {axis: size for axis, size in found.items() if axis is not None}
        return Bounded(kept, self.is_clean)


NOT_BOUNDED = Bounded()


def objects(array: Sequence[Any] | NDArray[Any]) -> Numbers:
    """The elements as Python objects; whole numbers are `int`."""
    source = np.asarray(array, object)
    found = np.empty(source.shape, object)
    for place in np.ndindex(*source.shape):
        item = source[place]
        found[place] = item if isinstance(item, Number) else int(item)
    return found


def are_known(numbers: Numbers) -> bool:
    """Say whether none of them is computed."""
    return not any(isinstance(item, Number) for item in numbers.flat)
