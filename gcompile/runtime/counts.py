"""Outputs whose size only the data decides: buffers, and counts of what is in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from numpy.typing import NDArray

from gcompile.runtime import untrusted

_MAX_COUNTS = 1024


@dataclass(frozen=True, slots=True)
class Count:
    """How much of an output counts along one axis.

    Attributes:
        output: The output: a buffer of the largest size there can be.
        axis: The axis; what counts stands first.
        count: The output of shape (1,) that says how many.
    """

    output: str
    axis: int
    count: str


def without_rest(
    outputs: Mapping[str, NDArray[Any]], counts: Sequence[Count]
) -> dict[str, NDArray[Any]]:
    """The outputs in their true sizes, without the counts; the arrays own what they hold."""
    found = dict(outputs)
    for item in counts:
        array = found[item.output]
        places = [slice(None)] * array.ndim
        places[item.axis] = slice(int(outputs[item.count].reshape(-1)[0]))
        found[item.output] = array[tuple(places)]
    for name in {item.count for item in counts}:
        del found[name]
    buffers = {item.output for item in counts}
    return {name: array.copy() if name in buffers else array for name, array in found.items()}


def read_counts(data: object, ranks: Mapping[str, int]) -> tuple[Count, ...]:
    """Validate the counts of an entry point, whose outputs have these ranks.

    Raises:
        ArtifactError: They say something a manifest must not say.
    """
    listed = untrusted.items(data, "counts")
    if len(listed) > _MAX_COUNTS:
        raise untrusted.refused(f"lists {len(listed)} counts, more than {_MAX_COUNTS}")
    return tuple(_count(item, ranks) for item in listed)


def _count(data: object, ranks: Mapping[str, int]) -> Count:
    entries = untrusted.mapping(data, "a count")
    untrusted.exact_keys(entries, [item.name for item in fields(Count)], "a count")
    output, count = (untrusted.text(entries[key], key) for key in ("output", "count"))
    if output not in ranks or count not in ranks:
        raise untrusted.refused("counts an output that it does not list")
    axis = untrusted.whole(entries["axis"], "axis", 0, ranks[output] - 1)
    return Count(output, axis, count)
