"""What something costs: joules by cause, and seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Cost:
    """Joules by cause, so that a sum never forgets its reasons, and seconds.

    Attributes:
        compute_j: Joules of operations, and of the cores while they run them.
        movement_j: Joules by memory level name.
    """

    compute_j: float = 0.0
    movement_j: Mapping[str, float] = field(default_factory=dict)
    launch_j: float = 0.0
    static_j: float = 0.0
    time_s: float = 0.0

    @property
    def energy_j(self) -> float:
        """All joules."""
        return self.compute_j + sum(self.movement_j.values()) + self.launch_j + self.static_j

    @classmethod
    def total(cls, costs: Iterable[Cost]) -> Cost:
        """Add up many, in one go."""
        movement: dict[str, float] = {}
        compute_j = launch_j = static_j = time_s = 0.0
        for cost in costs:
            compute_j += cost.compute_j
            launch_j += cost.launch_j
            static_j += cost.static_j
            time_s += cost.time_s
            for level, joules in cost.movement_j.items():
                movement[level] = movement.get(level, 0.0) + joules
        return cls(compute_j, movement, launch_j, static_j, time_s)

    def __add__(self, other: Cost) -> Cost:
        return Cost.total((self, other))

    def times(self, factor: float) -> Cost:
        """Return every cause and the time multiplied by the factor."""
        return Cost(
            self.compute_j * factor,
            {level: joules * factor for level, joules in self.movement_j.items()},
            self.launch_j * factor,
            self.static_j * factor,
            self.time_s * factor,
        )
