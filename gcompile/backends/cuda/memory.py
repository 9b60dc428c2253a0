"""Places for values in one block of device memory, shared by values that never live together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gcompile.backends.cuda.launches import Action, Copy, Launch, Role, Value, Zero

ALIGNMENT_BYTES = 256
"""What CUDA aligns its own allocations to."""


@dataclass(frozen=True)
class Arena:
    """Offsets of values in bytes, and the size of the whole."""

    offsets: Mapping[Value, int]
    bytes: int


def plan_arena(actions: Sequence[Action]) -> Arena:
    """Give every value of the arena a place for the time between its first and its last use.

    Large values first, each at the lowest place that is free for all of its time ("greedy by
    size", Pisarchyk and Lee, 2020, https://arxiv.org/abs/2001.03288).
    """
    lives: dict[Value, tuple[int, int]] = {}
    for time, action in enumerate(actions):
        for value in touched(action):
            if value.role is Role.ARENA:
                lives[value] = (lives.get(value, (time, time))[0], time)
    placed: list[Value] = []
    offsets: dict[Value, int] = {}
    for value in sorted(lives, key=lambda value: (-value.bytes, lives[value])):
        rivals = [other for other in placed if _meet(lives[value], lives[other])]
        offset = 0
        for other in sorted(rivals, key=offsets.__getitem__):
            if offset + value.bytes <= offsets[other]:
                break
            offset = max(offset, _aligned(offsets[other] + other.bytes))
        offsets[value] = offset
        placed.append(value)
    return Arena(offsets, max((_aligned(offsets[v] + v.bytes) for v in placed), default=0))


def touched(action: Action) -> tuple[Value, ...]:
    """The values that an action reads or writes."""
    match action:
        case Launch():
            return action.values
        case Copy():
            return (action.target, action.source)
        case Zero():
            return (action.target,)


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] <= other[1] and other[0] <= one[1]


def _aligned(size: int) -> int:
    return -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
