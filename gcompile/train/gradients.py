"""The gradient of a loss by every weight, row by row."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from gcompile import ir
from gcompile.passes import Arrays
from gcompile.passes.precision.run_rows import batches
from gcompile.train.graph_module import GraphModule

_LEAST_PROBABILITY = 1e-12


def row_gradients(
    model: ir.Model, rows: Arrays, labels: NDArray[np.generic] | None, seed: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Yield for each inference the gradient of its loss, by names of initializers.

    Args:
        model: A ready float model; its first output has a number per class if there are labels.
        rows: One array per input, rows along axis 0.
        labels: The class of each inference: the loss is the cross-entropy. None takes the sum of
            all outputs with random signs.
        seed: Of the signs.

    Raises:
        UsageError: PyTorch cannot run some of the nodes here.
    """
    module = GraphModule(model)
    named = dict(module.weights())
    generator = torch.Generator().manual_seed(seed)
    has_probabilities = _is_softmax(model.graph.outputs[0])
    names = [str(value.name) for value in model.graph.inputs]
    for index, row in enumerate(batches(rows, model, 1)):
        outputs = module(*(torch.from_numpy(np.ascontiguousarray(row[name])) for name in names))
        if labels is None:
            loss = torch.stack([_signed_sum(each, generator) for each in outputs]).sum()
        else:
            loss = _cross_entropy(outputs[0], int(labels[index]), has_probabilities)
        slopes = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        yield {
            name: np.zeros(weight.shape, np.float32) if slope is None else slope.numpy()
            for (name, weight), slope in zip(named.items(), slopes, strict=True)
        }


def _cross_entropy(scores: Tensor, label: int, has_probabilities: bool) -> Tensor:
    flat = scores.reshape(-1)
    if has_probabilities:
        return -flat[label].clamp_min(_LEAST_PROBABILITY).log()
    return -functional.log_softmax(flat, 0)[label]


def _signed_sum(output: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, output.shape, generator=generator) * 2 - 1
    return (output * signs).sum()


def _is_softmax(output: ir.Value) -> bool:
    producer = output.producer()
    return producer is not None and producer.op_type == "Softmax"
