"""What recovery costs, and after how many inferences it has paid.

    E = 3 · rows trained · E_graph + rows forward · E_forward,    N = E / (E_before - E_after)

A backward pass computes two products for each one of the forward pass (Hobbhahn & Sevilla,
"What's the backward-forward FLOP ratio for neural networks?", 2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile import ir
from gcompile.energy import EnergyModel, Roofline, estimate
from gcompile.targets import Target
from gcompile.train.fine_tune import Trained

_BACKWARD_AND_FORWARD = 3


@dataclass(frozen=True)
class Recovery:
    """The price of a training on one device.

    Attributes:
        energy_j: Of the training, estimated.
        saved_j: Joules that each inference takes less than before compression.
    """

    energy_j: float
    saved_j: float

    @property
    def break_even(self) -> float:
        """Inferences after which the training has paid; infinite where nothing is saved."""
        return self.energy_j / self.saved_j if self.saved_j > 0 else math.inf


def recovery_of(
    trained: Trained,
    model: ir.Model,
    target: Target,
    *,
    teacher: ir.Model | None = None,
    before_j: float,
    after_j: float,
    energy: EnergyModel | None = None,
) -> Recovery:
    """Estimate the energy of a training on the target, one row at a time in the graph's precision.

    Args:
        trained: What the training did.
        model: The graph that was trained.
        target: The device it trained on.
        teacher: The graph it learnt from, if any.
        before_j: Joules per inference before compression, where the model will run.
        after_j: The same after it.
        energy: The model of energy.
    """
    energy = energy or Roofline()
    row_j = estimate(model, target, energy, 1).total.energy_j
    taught_j = 0.0
    if teacher is not None:
        taught_j = trained.teacher_rows * estimate(teacher, target, energy, 1).total.energy_j
    judged = trained.forward_rows - trained.teacher_rows
    spent = (_BACKWARD_AND_FORWARD * trained.trained_rows + judged) * row_j + taught_j
    return Recovery(spent, before_j - after_j)
