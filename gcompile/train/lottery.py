"""Lottery tickets: sparse subnetworks that train from where the whole network began.

Train, remove the smallest of the remaining weights, set the rest back to what they were early on,
and repeat: iterative magnitude pruning with rewinding (Frankle, Dziugaite, Roy & Carbin, "Linear
Mode Connectivity and the Lottery Ticket Hypothesis", ICML 2020). Removed weights are zeros: they
save joules only on a target with a sparse unit, and bytes wherever the file is compressed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.train.batches import Loader
from gcompile.train.fine_tune import Augment, FineTuning, Trained, fine_tune
from gcompile.train.graph_module import GraphModule


@dataclass(frozen=True)
class LotteryTicket:
    """A sparse subnetwork.

    Attributes:
        masks: Zeros where weights were removed, by the names of their initializers.
        sparsity: The share of weights that are zero.
        rounds: What each training did; the last one trained the ticket.
    """

    masks: dict[str, Tensor]
    sparsity: float
    rounds: tuple[Trained, ...]


def find_ticket(
    model: ir.Model,
    rows: NDArray[np.float32] | Loader,
    labels: NDArray[np.int64] | None = None,
    *,
    validation: Loader | None = None,
    rounds: int = 3,
    share: float = 0.2,
    rewind: ir.Model | None = None,
    options: FineTuning | None = None,
    teacher: ir.Model | None = None,
    augment: Augment | None = None,
) -> LotteryTicket:
    """Find a ticket and train it, in place.

    Args:
        model: A ready model; see `fine_tune`.
        rows: To train on, an array or a data loader; see `fine_tune`.
        labels: The classes of an array's rows.
        validation: What judges, beside a data loader.
        rounds: How often weights are removed.
        share: How many of the remaining weights each round removes, all layers together.
        rewind: The same graph early in its training, to which the remaining weights go back; by
            default the model as given (for a trained model: fine-tuning from where it ended).
        options: Of each training.
        teacher: Who to learn from besides the labels.
        augment: Changes batches at random.

    Raises:
        UsageError: A number makes no sense, or `rewind` is another graph.
    """
    if rounds < 1 or not 0 < share < 1:
        raise UsageError("A lottery ticket needs at least one round and a share between 0 and 1.")
    options = options or FineTuning()
    early = GraphModule(rewind if rewind is not None else model)
    masks: dict[str, Tensor] = {}
    trainings = []
    for number in range(rounds + 1):
        if number:
            masks = _smaller(GraphModule(model), masks, share)
            if {name for name, _ in early.weights()} != set(masks):
                raise UsageError("The model to rewind to has other weights than the model.")
            early.masks = masks
            early.write_to(model)
        seeded = replace(options, seed=options.seed + number)
        trainings.append(
            fine_tune(
                model,
                rows,
                labels,
                seeded,
                validation=validation,
                teacher=teacher,
                augment=augment,
                masks=masks,
            )
        )
    zeros = sum(int((mask == 0).sum()) for mask in masks.values())
    total = sum(mask.numel() for mask in masks.values())
    return LotteryTicket(masks, zeros / total, tuple(trainings))


def _smaller(module: GraphModule, masks: dict[str, Tensor], share: float) -> dict[str, Tensor]:
    """Masks without the smallest of the weights that are left."""
    weights = {name: parameter.detach().abs() for name, parameter in module.weights()}
    kept = {name: masks.get(name, torch.ones_like(weight)) for name, weight in weights.items()}
    left = torch.cat([weight[kept[name] > 0] for name, weight in weights.items()])
    count = max(1, int(share * left.numel()))
    limit = torch.kthvalue(left, count).values
    return {name: kept[name] * (weight > limit) for name, weight in weights.items()}
