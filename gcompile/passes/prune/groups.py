"""Groups of channels that pruning may shrink, found on the graph.

A channel is a class of tied indices: removing it removes rows of some weights, columns of others,
and everything in between. Channels that lie in the same axes, as often in each, form a group:
removing any k of them gives the same shapes and so the same energy.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.prune.coupling import Classes, Indices, Member, couple
from gcompile.passes.prune.products import Product, products

ALONE = "it is the only channel of its kind"
COARSE = "it has two channels of many elements each: the last would fall apart into finer ones"

_HISTORY = "gcompile.pruned"


@dataclass(frozen=True)
class Group:
    """Channels of which any number may be removed, as long as one stays.

    Attributes:
        name: That of the first product that makes them; `name#2` where it makes several groups.
        size: How many there are.
        members: Every axis they lie in; empty where none may be removed.
        makers: Products that make them, by node name.
        readers: Products that sum over them, by node name.
        reason: Why none may be removed; None where some may.
        original: How many there were before any pruning.
        asked: How many the last pruning was asked to keep; `original` where there was none.
    """

    name: str
    size: int
    members: tuple[Member, ...]
    makers: tuple[str, ...]
    readers: tuple[str, ...]
    reason: str | None
    original: int
    asked: int

    @property
    def least(self) -> int:
        """The fewest that may stay.

        One head of attention, or one group of a convolution, is no axis any more: what it holds
        would become channels that can go one by one, and pruning again would find them.
        """
        return 2 if any(member.places.shape[1] > 1 for member in self.members) else 1

    def places(self, value: ir.Value, axis: int) -> NDArray[np.int64]:
        """Where the channels lie along an axis, one row per channel; no columns if nowhere."""
        for member in self.members:
            if member.value == value.name and member.axis == axis:
                return member.places
        return np.empty((self.size, 0), np.int64)


def prune_groups(model: ir.Model, *, normalized_width: bool = False) -> list[Group]:
    """Find every group of channels that a product makes, in the order their first products run.

    Args:
        model: A ready model.
        normalized_width: See `couple`.
    """
    indices = couple(model, normalized_width=normalized_width)
    found = list(products(model))
    makers = _by_class(indices, ((p, p.makes) for p in found))
    readers = _by_class(indices, ((p, p.sums) for p in found if p.sums is not None))
    classes = Classes(indices)
    alike: dict[tuple[int, tuple[tuple[int, int], ...], str], list[int]] = {}
    order = {product: index for index, product in enumerate(found)}
    for root, made_by in makers.items():
        key = (order[made_by[0]], classes.footprint(root), indices.reason(root) or "")
        alike.setdefault(key, []).append(root)
    groups = []
    taken: set[str] = set()
    for (first, _, reason), roots in sorted(alike.items()):
        name = _unique(found[first].name, taken)
        original, asked = _history(found[first].node, name, len(roots))
        group = Group(
            name,
            len(roots),
            () if reason else classes.members(sorted(roots)),
            tuple(p.name for p in makers[roots[0]]),
            tuple(p.name for p in readers.get(roots[0], ())),
            reason or None,
            original,
            asked,
        )
        groups.append(replace(group, reason=reason or _why_as_small_as_can_be(group)))
    return groups


def unknown_groups(names: Iterable[str], groups: Iterable[str]) -> str:
    """The message for names that no group has."""
    return (
        f"The model has no groups of channels called {', '.join(names)}. "
        f"Its groups are: {', '.join(groups)}."
    )


def remember(model: ir.Model, group: Group, asked: int) -> None:
    """Note on the group's first maker how many channels there were and how many were asked for.

    A ratio counts from what there was at first: pruning twice is pruning once.
    """
    node = next(node for node in model.graph if node.name == group.makers[0])
    known = json.loads(node.metadata_props.get(_HISTORY, "{}"))
    known[group.name] = [group.original, asked]
    node.metadata_props[_HISTORY] = json.dumps(known, sort_keys=True)


def _history(node: ir.Node, name: str, size: int) -> tuple[int, int]:
    known = json.loads(node.metadata_props.get(_HISTORY, "{}"))
    original, asked = known.get(name, (size, size))
    return int(original), int(asked)


def _why_as_small_as_can_be(group: Group) -> str | None:
    if group.size > group.least:
        return None
    return ALONE if group.size == 1 else COARSE


def _by_class(indices: Indices, axes: Iterable[tuple[Product, int]]) -> dict[int, list[Product]]:
    """The products that have indices of each class along the axis given."""
    found: dict[int, list[Product]] = {}
    for product, axis in axes:
        for root in np.unique(indices.roots(indices.of(product.weight)[axis])).tolist():
            found.setdefault(root, []).append(product)
    return found


def _unique(name: str, taken: set[str]) -> str:
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name}#{count}"
    taken.add(found)
    return found
