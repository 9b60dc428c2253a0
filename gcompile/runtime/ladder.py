"""Artefacts whose entry points are one model at several sizes of its free dimensions.

batch 1, 2, 4, 8 → an entry point for each; 11 rows run as 8 + 2 + 1, or as 8 + 4 with one row
                   that is dropped again, whichever was predicted to take fewer joules
length 16, 32    → 20 positions run as 32 whose last 12 are zeros, and their outputs are cut off
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from gcompile.runtime import untrusted
from gcompile.runtime.entry_point import EntryPoint

Place = tuple[str, int]
"""An input or output by name, and one of its axes."""

_LARGEST_J = 1e30
_MAX_AXIS = 15


class Kind(StrEnum):
    """How a request of a size that was not compiled is run."""

    ROWS = "rows"
    """The rows are independent: they are divided among runs, and one of them is filled up."""
    PADDED = "padded"
    """Zeros fill up to the next size, which changes no output at the positions that were given."""
    EXACT = "exact"
    """Only the sizes that were compiled run."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One free dimension.

    Attributes:
        name: As the model calls it.
        inputs: Where it stands in the inputs.
        outputs: Where it stands in the outputs.
    """

    name: str
    kind: Kind
    inputs: tuple[Place, ...]
    outputs: tuple[Place, ...]

    def size_in(self, entry: EntryPoint) -> int:
        """The size that an entry point was compiled for."""
        name, axis = self.inputs[0]
        return next(spec for spec in entry.inputs if spec.name == name).shape[axis]


@dataclass(frozen=True, slots=True)
class Ladder:
    """The sizes one model was compiled for: the artefact has an entry point for each.

    Attributes:
        energy_j: Predicted joules of one run of each entry point.
    """

    dimensions: tuple[Dimension, ...]
    energy_j: Mapping[str, float]


def read_ladder(data: object, entries: tuple[EntryPoint, ...]) -> Ladder | None:
    """Validate the ladder of a manifest; most artefacts have none.

    Raises:
        ArtifactError: It says something a manifest must not say.
    """
    if data is None:
        return None
    found = untrusted.mapping(data, "ladder")
    untrusted.exact_keys(found, [item.name for item in fields(Ladder)], "ladder")
    dimensions = untrusted.items(found["dimensions"], "dimensions")
    energies = untrusted.mapping(found["energy_j"], "energy_j")
    if set(energies) != {entry.name for entry in entries} or not dimensions:
        raise untrusted.refused("has a ladder that does not fit its entries")
    return Ladder(
        tuple(_dimension(item, entries) for item in dimensions),
        {
            name: untrusted.number(value, "energy_j", _LARGEST_J)
            for name, value in energies.items()
        },
    )


def _dimension(data: object, entries: tuple[EntryPoint, ...]) -> Dimension:
    found = untrusted.mapping(data, "a dimension")
    untrusted.exact_keys(found, [item.name for item in fields(Dimension)], "a dimension")
    kind = untrusted.text(found["kind"], "kind")
    if kind not in list(Kind):
        raise untrusted.refused(f"has a dimension of the unknown kind {kind!r:.40}")
    inputs = tuple(_place(item) for item in untrusted.items(found["inputs"], "inputs"))
    outputs = tuple(_place(item) for item in untrusted.items(found["outputs"], "outputs"))
    for entry in entries:
        given = {spec.name: len(spec.shape) for spec in entry.inputs}
        returned = {spec.name: len(spec.shape) for spec in entry.outputs}
        fits = all(axis < given.get(name, 0) for name, axis in inputs)
        if not inputs or not fits or any(a >= returned.get(n, 0) for n, a in outputs):
            raise untrusted.refused("has a dimension where its inputs and outputs have none")
    return Dimension(untrusted.text(found["name"], "name"), Kind(kind), inputs, outputs)


def _place(data: object) -> Place:
    pair = untrusted.items(data, "a place")
    if len(pair) != 2:
        raise untrusted.refused("has something else where a place must be a name and an axis")
    return untrusted.text(pair[0], "a place"), untrusted.whole(pair[1], "an axis", 0, _MAX_AXIS)
