"""Train a graph on rows with labels, and keep the best of what was found.

    loss = (1 - distill) · CE(outputs, labels) + distill · T² · KL(teacher / T, outputs / T)

The second term is knowledge distillation (Hinton, Vinyals & Dean, "Distilling the Knowledge in a
Neural Network", 2015): the graph learns what the model that it was made from would have said. Few
rows become many by mixing pairs of them (Zhang et al., "mixup: Beyond Empirical Risk
Minimization", ICLR 2018): the teacher answers for mixtures as for rows (Beyer et al., "Knowledge
Distillation: A Good Teacher is Patient and Consistent", CVPR 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - how all torch code writes it
from numpy.typing import NDArray
from torch import Tensor

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.train.batches import (
    ArrayBatches,
    Batches,
    Loader,
    LoaderBatches,
    check_batches,
)
from gcompile.train.graph_module import GraphModule

Augment = Callable[[Tensor, torch.Generator], Tensor]
"""Changes a batch at random, in ways that leave its labels true."""

Progress = Callable[["Epoch"], None]


@dataclass(frozen=True)
class FineTuning:
    """How to train.

    Attributes:
        epochs: Passes over the rows, at most.
        batch: Rows of one step.
        learning_rate: Of the first step; it falls to zero along half a cosine.
        momentum: Of stochastic gradient descent with Nesterov's correction.
        weight_decay: Of weights of two dimensions or more.
        distill: Share of the loss that the teacher has, where there is one.
        temperature: Of both distributions in that share.
        mixup: Both parameters of the beta distribution that shares of two mixed rows come from: 1
            draws them evenly, 0 mixes nothing.
        held_out: Share of the rows that are not trained on: they say which epoch is the best.
        patience: Epochs without a better result after which training stops; None trains all.
        relaxed: Quantizers round at random during training instead of to the nearest.
        mixed_precision: Run products in bfloat16.
        seed: Of the order of rows, of augmentation and of noise.
    """

    epochs: int = 10
    batch: int = 64
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 5e-4
    distill: float = 0.9
    temperature: float = 4.0
    mixup: float = 0.0
    held_out: float = 0.1
    patience: int | None = None
    relaxed: bool = False
    mixed_precision: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1:
            raise UsageError("Fine-tuning needs at least one epoch and one row in a batch.")
        if not 0 < self.held_out < 1 or not 0 <= self.distill <= 1:
            raise UsageError("held_out must lie between 0 and 1, and distill from 0 to 1.")
        if self.mixup < 0:
            raise UsageError("mixup must not be negative.")
        if self.learning_rate <= 0 or self.temperature <= 0:
            raise UsageError("learning_rate and temperature must be greater than 0.")


@dataclass(frozen=True)
class Epoch:
    """One pass over the rows.

    Attributes:
        number: Counted from 1; 0 is the graph as it was given.
        loss: Mean over the rows trained on; not a number for epoch 0.
        accuracy: Of the rows held out.
    """

    number: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class Trained:
    """What training did.

    Attributes:
        epochs: All of them, the given graph first.
        best: The one whose weights the graph has now.
        trained_rows: Rows that passed forward and backward, counted as often as they did.
        forward_rows: Rows that passed forward only: through the teacher, and to be judged.
        teacher_rows: Those of the teacher among them.
    """

    epochs: tuple[Epoch, ...]
    best: Epoch
    trained_rows: int
    forward_rows: int
    teacher_rows: int


@dataclass
class _Rows:
    """Counts."""

    trained: int = 0
    judged: int = 0
    taught: int = 0


def fine_tune(
    model: ir.Model,
    rows: NDArray[np.float32] | Loader,
    labels: NDArray[np.int64] | None = None,
    options: FineTuning | None = None,
    *,
    validation: Loader | None = None,
    teacher: ir.Model | None = None,
    augment: Augment | None = None,
    masks: dict[str, Tensor] | None = None,
    progress: Progress | None = None,
) -> Trained:
    """Train a classifier in place; it ends with the weights of its best epoch.

    Args:
        model: A ready model of one input and one output of (batch, classes) scores, pruned or
            quantized or neither. Of quantized weights the integers change, the steps do not.
        rows: (rows, …) in the form of the input without its batch, some of which are held out; or
            a data loader, which yields batches of rows and their classes.
        labels: (rows,) the class of each row of an array.
        options: How to train; a loader has batches of its own.
        validation: What judges, beside a data loader.
        teacher: Who to learn from besides the labels: mostly the model before compression.
        augment: Changes batches at random.
        masks: What stays zero, by the name of its initializer.
        progress: Called after every epoch.

    Returns:
        The course of the training. The same arguments give the same weights on one machine.

    Raises:
        UsageError: Rows and labels do not fit each other or the model, or an operator has no
            gradient here.
    """
    options = options or FineTuning()
    module = GraphModule(model)
    module.masks = dict(masks or {})
    guide = None if teacher is None else GraphModule(teacher)
    batches = _batches(rows, labels, validation, options)
    check_batches(model, batches)
    counted, classes = _Rows(), ir.static_shape(model.graph.outputs[0])[-1]
    best_state, epochs = _state(module), [Epoch(0, math.nan, _accuracy(module, batches, counted))]
    best = epochs[0]
    for loss in _train(module, guide, batches, options, augment, classes, counted):
        epochs.append(Epoch(len(epochs), loss, _accuracy(module, batches, counted)))
        if progress is not None:
            progress(epochs[-1])
        if epochs[-1].accuracy >= best.accuracy:
            best, best_state = epochs[-1], _state(module)
        if options.patience is not None and epochs[-1].number - best.number >= options.patience:
            break
    module.load_state_dict(best_state)
    module.write_to(model)
    ir.verify(model)
    forward = counted.judged + counted.taught
    return Trained(tuple(epochs), best, counted.trained, forward, counted.taught)


def _batches(
    rows: NDArray[np.float32] | Loader,
    labels: NDArray[np.int64] | None,
    validation: Loader | None,
    options: FineTuning,
) -> Batches:
    if isinstance(rows, np.ndarray):
        if labels is None:
            raise UsageError("Rows in an array need labels: fine_tune(model, rows, labels).")
        return ArrayBatches.split(
            rows, labels, share=options.held_out, batch=options.batch, seed=options.seed
        )
    if validation is None or labels is not None:
        raise UsageError(
            "A data loader brings its labels, and needs another to judge by: "
            "fine_tune(model, loader, validation=other)."
        )
    return LoaderBatches(rows, validation)


def _train(
    module: GraphModule,
    guide: GraphModule | None,
    batches: Batches,
    options: FineTuning,
    augment: Augment | None,
    classes: int,
    counted: _Rows,
) -> Iterator[float]:
    """Yield the mean loss of each epoch."""
    generator = torch.Generator().manual_seed(options.seed)
    shares = np.random.default_rng(options.seed)
    decayed = [p for _, p in module.weights()]
    kept = {id(p) for p in decayed}
    others = [p for p in module.parameters() if id(p) not in kept]
    optimizer = torch.optim.SGD(
        [{"params": decayed, "weight_decay": options.weight_decay}, {"params": others}],
        lr=options.learning_rate,
        momentum=options.momentum,
        nesterov=options.momentum > 0,
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
        optimizer, options.epochs * batches.steps
    )
    for _ in range(options.epochs):
        total, rows = 0.0, 0
        module.noise = generator if options.relaxed else None
        for x, y in batches.epoch(generator):
            x = x if augment is None else augment(x, generator)
            x, truth = _mixed(x, F.one_hot(y, classes).float(), options.mixup, shares)
            optimizer.zero_grad(set_to_none=True)
            loss = _loss(module, guide, x, truth, options)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            optimizer.step()
            schedule.step()
            total += loss.item() * len(y)
            rows += len(y)
        module.noise = None
        counted.trained += rows
        counted.taught += rows if guide is not None else 0
        yield total / max(rows, 1)


def _mixed(
    x: Tensor, truth: Tensor, mixup: float, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Mix each row of a batch with another, and their truths alike."""
    if mixup == 0:
        return x, truth
    share = torch.from_numpy(generator.beta(mixup, mixup, len(x)).astype(np.float32))
    partner = torch.from_numpy(generator.permutation(len(x)))
    shares = share.reshape(-1, *[1] * (x.dim() - 1))
    truth = share[:, None] * truth + (1 - share)[:, None] * truth[partner]
    return shares * x + (1 - shares) * x[partner], truth


def _loss(
    module: GraphModule, guide: GraphModule | None, x: Tensor, truth: Tensor, options: FineTuning
) -> Tensor:
    """The loss of a batch; `truth` are (rows, classes) probabilities."""
    products = torch.autocast("cpu", torch.bfloat16, enabled=options.mixed_precision)
    with products:
        (scores,) = module(x)
    scores = scores.float()
    loss = F.cross_entropy(scores, truth)
    if guide is None:
        return loss
    with torch.no_grad(), products:
        (told,) = guide(x)
    told = told.float()
    warm = options.temperature
    apart = F.kl_div(
        F.log_softmax(scores / warm, 1), F.log_softmax(told / warm, 1),
        reduction="batchmean", log_target=True,
    )  # fmt: skip
    return (1 - options.distill) * loss + options.distill * warm**2 * apart


def _accuracy(module: GraphModule, batches: Batches, counted: _Rows) -> float:
    correct = rows = 0
    with torch.no_grad():
        for x, labels in batches.held_out():
            (scores,) = module(x)
            correct += int((scores.argmax(1) == labels).sum())
            rows += len(labels)
    counted.judged += rows
    return correct / rows


def _state(module: GraphModule) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}
