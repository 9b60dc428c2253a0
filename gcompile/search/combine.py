"""What a region costs depends on what is pruned around it: an option for each combination."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import product

from gcompile import ir
from gcompile.search.budget_solver import Option
from gcompile.search.choice import Setting

_MOST_WAYS = 96
"""Ways to prune around one region that are told apart; parts beyond are left out of its price,
and the price of the whole model corrects for them."""


def precisions_in(options: Sequence[Option]) -> list[ir.Precision]:
    """The precisions among the settings."""
    return [o.setting for o in options if isinstance(o.setting, ir.Precision)]


def combine(
    name: str,
    options: Sequence[Option],
    parts: Mapping[str, Sequence[Option]],
    shares: Mapping[ir.Precision, Mapping[tuple[str, Setting], Mapping[str, float]]],
) -> list[Option]:
    """The options of one region for every way the parts around it may be pruned.

    Shares that two parts leave of a region are multiplied. A region that a block takes along costs
    nothing in any precision, and makes no error.

    Args:
        name: Of the region.
        options: Those where nothing is pruned.
        parts: The options of groups, kernels and blocks.
        shares: What each setting of a part leaves of each region, by precision.
    """
    changes = {
        key: {p: found[key].get(name, 1.0) for p, found in shares.items()}
        for key in next(iter(shares.values()), {})
        if any(name in found[key] for found in shares.values())
    }
    gone = [key for key, left in changes.items() if not any(left.values())]
    settings = _most_telling(changes, parts, {part for part, _ in gone})
    there = tuple((part, parts[part][0].setting) for part, _ in gone)
    combined = []
    for option in options:
        precision = option.setting
        assert isinstance(precision, ir.Precision)
        for needs in product(*settings):
            left = (changes[key][precision] for key in needs if key in changes)
            energy_j = option.energy_j * math.prod(left)
            combined.append(replace(option, energy_j=energy_j, needs=(*needs, *there)))
    combined += [Option(options[0].setting, 0.0, 0.0, (key,)) for key in gone]
    return combined


def _most_telling(
    changes: Mapping[tuple[str, Setting], Mapping[ir.Precision, float]],
    parts: Mapping[str, Sequence[Option]],
    gone: Collection[str],
) -> list[list[tuple[str, Setting]]]:
    """The settings of those parts around a region that change it most, a bounded number."""
    most: dict[str, float] = {}
    for (part, _), left in changes.items():
        if part not in gone:
            most[part] = max(most.get(part, 0.0), 1 - min(left.values()))
    found: list[list[tuple[str, Setting]]] = []
    ways = 1
    for part in sorted(most, key=lambda name: (-most[name], name)):
        ways *= len(parts[part])
        if ways > _MOST_WAYS:
            break
        found.append([(part, option.setting) for option in parts[part]])
    return found
