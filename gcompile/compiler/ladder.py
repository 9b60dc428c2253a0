"""Which sizes of its free dimensions a model is compiled for, and what runs between them.

    batch 1..8     → 1, 2, 4, 8; rows are independent, so any number of them is divided among these
    length 16..100 → 16, 32, 64, 100; zeros fill up to the next, where that changes no output
    length 16,100  → these two and nothing else

What a dimension is follows from where it stands; that rows are independent, or that zeros change
nothing, is tried with the reference runtime before any code is made (see `ladder_check`).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.runtime.ladder import Dimension, Kind

MOST_SIZES = 64
"""Each combination of sizes is code of its own."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of one free dimension that were asked for.

    Attributes:
        compiled: In ascending order.
        is_range: Whether the sizes between them must run as well.
    """

    compiled: tuple[int, ...]
    is_range: bool

    @classmethod
    def parse(cls, name: str, wanted: str | range | Sequence[int]) -> Sizes:
        """Read `16..512` or `16,32,64`; in Python a range or a list of sizes will do.

        Raises:
            UsageError: It says something else.
        """
        if isinstance(wanted, range):
            wanted = f"{wanted.start}..{wanted.stop - 1}" if wanted.step == 1 else list(wanted)
        text = wanted if isinstance(wanted, str) else ",".join(map(str, wanted))
        low, dots, high = text.partition("..")
        sizes = [low, high] if dots else text.split(",")
        if not all(size.strip().isdecimal() and int(size) for size in sizes):
            raise UsageError(
                f"{text!r:.60} are no sizes of {name!r}. Write a range, {name}=1..64, or a list, "
                f"{name}=16,32."
            )
        numbers = tuple(sorted({int(size) for size in sizes}))
        if dots and int(low) > int(high):
            raise UsageError(f"The range {text} of {name!r} is empty. Begin with the smaller.")
        return cls(tuple(_doubled(numbers[0], numbers[-1])) if dots else numbers, bool(dots))


@dataclass(frozen=True)
class Plan:
    """The sizes that one model is compiled for.

    Attributes:
        graph: The model as it was read, with its free dimensions.
        shapes: What inputs are bound to besides.
        name: What the user calls the model.
    """

    graph: ir.Model
    shapes: ir.Shapes | None
    name: str
    dimensions: tuple[Dimension, ...]
    sizes: Mapping[str, Sizes]

    @property
    def rungs(self) -> dict[str, dict[str, int]]:
        """The sizes of each entry point, by its name; first the one that budgets are of.

        That is one sample at the largest of every other dimension.
        """
        names = [dimension.name for dimension in self.dimensions]
        steps = [
            self.sizes[d.name].compiled[:: 1 if d.kind is Kind.ROWS else -1]
            for d in self.dimensions
        ]
        combined = [dict(zip(names, each, strict=True)) for each in itertools.product(*steps)]
        return {_entry_name(sizes): sizes for sizes in combined}

    def at(self, sizes: Mapping[str, int]) -> ir.Model:
        """The model, ready, at one size."""
        return ir.prepare(self.graph.clone(), self.shapes, sizes=sizes)


def plan_ladder(
    graph: ir.Model,
    name: str,
    shapes: ir.Shapes | None,
    dynamic: Mapping[str, str | range | Sequence[int]],
) -> Plan:
    """Find out what the dimensions are that are to stay free.

    Args:
        graph: A model as it was read.
        name: What the user calls it.
        shapes: A static shape for each input with other free dimensions.
        dynamic: The sizes of each dimension that stays free, by its name.

    Raises:
        UsageError: A name is that of no free dimension, sizes cannot be read, they are too many,
            or a range is asked for of a dimension whose outputs do not follow it.
    """
    places = ir.free_dimensions(graph)
    if unknown := [symbol for symbol in dynamic if symbol not in places]:
        raise UsageError(f"The model has no free dimension {unknown[0]!r}. {_described(places)}")
    sizes = {symbol: Sizes.parse(symbol, wanted) for symbol, wanted in dynamic.items()}
    count = math.prod(len(each.compiled) for each in sizes.values())
    if count > MOST_SIZES:
        raise UsageError(
            f"{count} combinations of sizes are too many, each is code of its own: at most "
            f"{MOST_SIZES}. Name fewer sizes, or narrower ranges."
        )
    plan = Plan(graph, shapes, name, (), sizes)
    base = plan.at({symbol: each.compiled[-1] for symbol, each in sizes.items()})
    dimensions: list[Dimension] = []
    for symbol, each in sizes.items():
        axes = _outputs_that_follow(plan, base, symbol)
        inputs = tuple(places[symbol])
        has_rows = any(found.kind is Kind.ROWS for found in dimensions)
        kind = Kind.PADDED if each.is_range else Kind.EXACT
        if not has_rows and _are_rows(inputs, axes, base):
            kind = Kind.ROWS
        elif each.is_range and axes is None:
            raise UsageError(
                f"The outputs do not simply follow the free dimension {symbol!r}, so sizes "
                f"between those that are compiled cannot run. List every size: {symbol}=16,32."
            )
        dimensions.append(Dimension(symbol, kind, inputs, tuple(axes or ())))
    return Plan(graph, shapes, name, tuple(dimensions), sizes)


def _doubled(low: int, high: int) -> Iterator[int]:
    """The ends of a range, and the powers of two between them."""
    yield low
    step = 1 << low.bit_length()
    while step < high:
        yield step
        step *= 2
    if high > low:
        yield high


def _outputs_that_follow(plan: Plan, base: ir.Model, symbol: str) -> list[tuple[str, int]] | None:
    """Where outputs have the dimension's size; None where one changes in another way."""
    largest = {name: each.compiled[-1] for name, each in plan.sizes.items()}
    other = plan.at(largest | {symbol: _another(plan.sizes[symbol])})
    changed = _another(plan.sizes[symbol])
    found = []
    for before, after in zip(base.graph.outputs, other.graph.outputs, strict=True):
        pairs = zip(ir.static_shape(before), ir.static_shape(after), strict=True)
        for axis, (one, two) in enumerate(pairs):
            if one == two:
                continue
            if (one, two) != (largest[symbol], changed):
                return None
            found.append((str(before.name), axis))
    return found


def _another(sizes: Sizes) -> int:
    """A size besides the largest."""
    return sizes.compiled[0] if len(sizes.compiled) > 1 else sizes.compiled[0] + 1


def _are_rows(
    inputs: tuple[tuple[str, int], ...], axes: list[tuple[str, int]] | None, model: ir.Model
) -> bool:
    """Whether it stands first, in some inputs and in every output."""
    wanted = {(str(value.name), 0) for value in model.graph.outputs}
    return set(axes or ()) == wanted and all(axis == 0 for _, axis in inputs)


def _entry_name(sizes: Mapping[str, int]) -> str:
    """Such as `batch8-length128`; a dimension without a name has brackets in it."""
    return re.sub("[^A-Za-z0-9-]", "_", "-".join(f"{n}{size}" for n, size in sizes.items()))


def _described(places: Mapping[str, list[tuple[str, int]]]) -> str:
    if not places:
        return "It has none: all its inputs have static shapes."
    listed = "; ".join(
        f"{name} ({', '.join(f'axis {axis} of {tensor}' for tensor, axis in where)})"
        for name, where in places.items()
    )
    return f"Its free dimensions are: {listed}."
