"""Where batches come from: arrays, some of whose rows are held out, or loaders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gcompile import ir
from gcompile.errors import UsageError

Batch = tuple[Tensor, Tensor]
"""Rows in the form of the input, (rows, …), and their classes, (rows,)."""


class Loader(Sized, Iterable[Batch], Protocol):
    """Yields batches, each time it is iterated over: `torch.utils.data.DataLoader` is one."""


class Batches(Protocol):
    """What to train on, and what to judge by."""

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """Yield the batches of one epoch."""

    def held_out(self) -> Iterator[Batch]:
        """Yield what is never trained on."""


@dataclass(frozen=True)
class ArrayBatches:
    """Rows of arrays, in another order every epoch."""

    x: Tensor
    labels: Tensor
    train: NDArray[np.int64]
    others: NDArray[np.int64]
    batch: int

    @classmethod
    def split(
        cls,
        rows: NDArray[np.float32],
        labels: NDArray[np.int64],
        *,
        share: float,
        batch: int,
        seed: int,
    ) -> ArrayBatches:
        """Hold a share of the rows out.

        Raises:
            UsageError: Rows and labels do not fit each other.
        """
        if len(rows) != len(labels) or len(rows) < 2:
            raise UsageError(f"There are {len(rows)} rows and {len(labels)} labels.")
        order = np.random.default_rng(seed).permutation(len(rows))
        count = min(max(1, round(share * len(rows))), len(rows) - 1)
        return cls(
            torch.from_numpy(np.ascontiguousarray(rows, np.float32)),
            torch.from_numpy(np.ascontiguousarray(labels, np.int64)),
            order[count:],
            order[:count],
            batch,
        )

    @property
    def steps(self) -> int:
        return math.ceil(len(self.train) / self.batch)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(len(self.train), generator=generator).numpy()
        return self._batches(self.train[order])

    def held_out(self) -> Iterator[Batch]:
        return self._batches(self.others)

    def _batches(self, chosen: NDArray[np.int64]) -> Iterator[Batch]:
        for start in range(0, len(chosen), self.batch):
            part = chosen[start : start + self.batch]
            yield self.x[part], self.labels[part]


@dataclass(frozen=True)
class LoaderBatches:
    """Two loaders: the first is trained on, the second judges."""

    loader: Loader
    validation: Loader

    @property
    def steps(self) -> int:
        return len(self.loader)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        return ((x.float(), labels.long()) for x, labels in self.loader)

    def held_out(self) -> Iterator[Batch]:
        return ((x.float(), labels.long()) for x, labels in self.validation)


def check_batches(model: ir.Model, batches: Batches) -> None:
    """Hold the first batch that judges against the model's input.

    Raises:
        UsageError: They do not fit, or there is nothing to train on or to judge by.
    """
    if len(model.graph.inputs) != 1 or len(model.graph.outputs) != 1:
        raise UsageError("Fine-tuning needs a model of one input and one output.")
    first = next(batches.held_out(), None)
    if first is None or not batches.steps:
        raise UsageError("A data loader yields no batches: training and validation need some.")
    shape, read = tuple(first[0].shape[1:]), tuple(ir.static_shape(model.graph.inputs[0])[1:])
    if shape != read:
        raise UsageError(f"Rows have the shape {shape}, the model reads {read}.")
