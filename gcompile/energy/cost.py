"""What something costs: joules by cause, and seconds."""

from __future__ import annotations

from collections.abc import Mapping
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

    def __add__(self, other: Cost) -> Cost:
        levels = dict.fromkeys([*self.movement_j, *other.movement_j])
        movement = {
            level: self.movement_j.get(level, 0.0) + other.movement_j.get(level, 0.0)
            for level in levels
        }
        return Cost(
            self.compute_j + other.compute_j,
            movement,
            self.launch_j + other.launch_j,
            self.static_j + other.static_j,
            self.time_s + other.time_s,
        )

    def times(self, factor: float) -> Cost:
        """Return every cause and the time multiplied by the factor."""
        return Cost(
            self.compute_j * factor,
            {level: joules * factor for level, joules in self.movement_j.items()},
            self.launch_j * factor,
            self.static_j * factor,
            self.time_s * factor,
        )
