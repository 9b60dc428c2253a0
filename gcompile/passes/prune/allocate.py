"""Share a saving out over groups of channels: joules are saved where they cost least error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gcompile.passes.prune.eliminate import Elimination
from gcompile.passes.prune.groups import Group
from gcompile.passes.prune.sizes import SizePricer

_SIZES, _STEP = 16, 4
"""Sizes looked at in each group, and the least step between them: kernels take four at a time."""

_NO_ERROR = 1e-9


@dataclass(frozen=True)
class _Offer:
    """A size that a group may have.

    Attributes:
        saved_j: What it alone saves, in joules.
        error: What it alone costs, as a share of what is read.
    """

    group: str
    size: int
    saved_j: float
    error: float


def allocate(
    pricer: SizePricer, orders: Mapping[str, Elimination], limit_j: float
) -> dict[str, int]:
    """Choose how many channels groups keep until a limit is met, or nothing more can be saved.

    Greedy: of all smaller sizes of all groups, the one that adds the least error per joule is
    taken, again and again. What the choice costs as a whole is priced after each step.

    Args:
        pricer: Prices the groups to choose from.
        orders: In which order their channels go, by name.
        limit_j: Joules per inference allowed.
    """
    offers = [offer for name in orders for offer in _offers(pricer, name, orders[name])]
    taken: dict[str, _Offer] = {}
    sizes: dict[str, int] = {}
    while pricer.energy_j(sizes) > limit_j:
        better = [o for o in offers if o.saved_j > _saved(taken, o.group) * (1 + _NO_ERROR)]
        if not better:
            break
        best = min(better, key=lambda offer: _price(offer, taken))
        taken[best.group], sizes[best.group] = best, best.size
    return sizes


def _offers(pricer: SizePricer, name: str, order: Elimination) -> list[_Offer]:
    group = pricer.groups[name]
    whole_j = pricer.energy_j({})
    return [
        _Offer(
            name,
            size,
            whole_j - pricer.energy_j({name: size}),
            float(order.errors[group.size - size - 1]),
        )
        for size in _sizes(group)
    ]


def _sizes(group: Group) -> range:
    if group.size <= _STEP * 2:
        return range(group.size - 1, group.least - 1, -1)
    step = max(-(-group.size // _SIZES // _STEP) * _STEP, _STEP)
    first = (group.size - 1) // step * step
    return range(first, group.least - 1, -step)


def _saved(taken: Mapping[str, _Offer], group: str) -> float:
    return taken[group].saved_j if group in taken else 0.0


def _price(offer: _Offer, taken: Mapping[str, _Offer]) -> float:
    """The error added per joule saved, beyond what the group has taken already."""
    before = taken.get(offer.group)
    error = offer.error - (before.error if before else 0.0)
    return max(error, _NO_ERROR) / (offer.saved_j - (before.saved_j if before else 0.0))
