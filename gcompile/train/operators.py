"""ONNX operators in PyTorch, with gradients.

Each takes the node's attributes and then its inputs: tensors, numbers for constant scalars, lists
of numbers for constant shapes and axes, None for what is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - how all torch code writes it
from torch import Tensor

Attributes = Mapping[str, Any]
Operator = Callable[..., Tensor]


def _conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = x.dim() - 2
    strides, dilations = a.get("strides", [1] * rank), a.get("dilations", [1] * rank)
    x, padding = _padded(x, a.get("pads", [0] * 2 * rank), rank, 0.0)
    convolve = F.conv1d if rank == 1 else F.conv2d
    return convolve(x, w, b, tuple(strides), padding, tuple(dilations), a.get("group", 1))


def _padded(x: Tensor, pads: Sequence[int], rank: int, value: float) -> tuple[Tensor, list[int]]:
    """Leave symmetric padding to the operator; write out any other."""
    before, after = list(pads[:rank]), list(pads[rank:])
    if before == after:
        return x, before
    return _pad_last(x, pads, rank, value), [0] * rank


def _max_pool(a: Attributes, x: Tensor) -> Tensor:
    rank = x.dim() - 2
    x, padding = _padded(x, a.get("pads", [0] * 2 * rank), rank, float("-inf"))
    strides = list(a.get("strides", [1] * rank))
    pool = F.max_pool1d if rank == 1 else F.max_pool2d
    kernel = list(a["kernel_shape"])
    return pool(x, kernel, strides, padding, ceil_mode=bool(a.get("ceil_mode", 0)))


def _average_pool(a: Attributes, x: Tensor) -> Tensor:
    rank = x.dim() - 2
    pads = a.get("pads", [0] * 2 * rank)
    window = list(a["kernel_shape"]), list(a.get("strides", [1] * rank))
    pool = functools.partial(
        F.avg_pool1d if rank == 1 else F.avg_pool2d, ceil_mode=bool(a.get("ceil_mode", 0))
    )
    means = pool(_pad_last(x, pads, rank, 0.0), *window)
    if not any(pads) or a.get("count_include_pad", 0):
        return means
    return means / pool(_pad_last(torch.ones_like(x[:1, :1]), pads, rank, 0.0), *window)


def _gemm(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    x, w = (x.T if a.get("transA", 0) else x), (w if a.get("transB", 0) else w.T)
    if alpha == beta == 1.0 and (b is None or b.dim() == 1):
        return F.linear(x, w, b)
    product = alpha * F.linear(x, w)
    return product if b is None else product + beta * b


def _norm(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    axis = a.get("axis", -1)
    return F.layer_norm(x, x.shape[axis:], w, b, a.get("epsilon", 1e-5))


def _gather(a: Attributes, x: Tensor, indices: Tensor | list[int] | int) -> Tensor:
    axis = a.get("axis", 0)
    if isinstance(indices, int):
        return x.select(axis, indices)
    if isinstance(indices, list):
        return x.index_select(axis, torch.tensor(indices))
    if axis == 0 and x.dim() == 2:
        return F.embedding(indices, x)
    flat = x.index_select(axis, indices.reshape(-1))
    return flat.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


def _reshape(a: Attributes, x: Tensor, shape: list[int]) -> Tensor:
    return x.reshape([x.shape[i] if size == 0 else size for i, size in enumerate(shape)])


def _slice(
    a: Attributes,
    x: Tensor,
    starts: list[int],
    ends: list[int],
    axes: list[int] | None = None,
    steps: list[int] | None = None,
) -> Tensor:
    index = [slice(None)] * x.dim()
    axes = list(range(len(starts))) if axes is None else axes
    for i, axis in enumerate(axes):
        index[axis] = slice(starts[i], ends[i], steps[i] if steps else 1)
    return x[tuple(index)]


def _pad(
    a: Attributes,
    x: Tensor,
    pads: list[int] | None = None,
    value: float | None = None,
    axes: list[int] | None = None,
) -> Tensor:
    given = list(a["pads"] if pads is None else pads)
    over = range(x.dim()) if axes is None else [axis % x.dim() for axis in axes]
    sides = {axis: (given[i], given[len(over) + i]) for i, axis in enumerate(over)}
    mode = a.get("mode", "constant")
    if mode == "constant":
        before, after = zip(*(sides.get(axis, (0, 0)) for axis in range(x.dim())), strict=True)
        return _pad_last(
            x, [*before, *after], x.dim(), a.get("value", 0.0) if value is None else value
        )
    for axis, (left, right) in sides.items():
        around = np.pad(np.arange(x.shape[axis]), (max(left, 0), max(right, 0)), mode)
        taken = around[max(-left, 0) : len(around) - max(-right, 0)]
        x = x.index_select(axis, torch.from_numpy(taken))
    return x


def _pad_last(x: Tensor, pads: Sequence[int], rank: int, value: float) -> Tensor:
    """Pad the last axes; pads are those before each, then those after."""
    sides = [side for i in reversed(range(rank)) for side in (pads[i], pads[rank + i])]
    return F.pad(x, sides, value=value)


def _mean(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
    over = a.get("axes") if axes is None else axes
    return x.mean(None if over is None else list(over), bool(a.get("keepdims", 1)))


def _clip(a: Attributes, x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    return torch.clamp(
        x, a.get("min") if low is None else low, a.get("max") if high is None else high
    )


def _batch_norm(
    a: Attributes, x: Tensor, scale: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    return F.batch_norm(x, mean, variance, scale, shift, eps=a.get("epsilon", 1e-5))


def _squeeze(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
    return x.squeeze(tuple(a["axes"] if axes is None else axes))


def _unsqueeze(a: Attributes, x: Tensor, axes: list[int] | None = None) -> Tensor:
    for axis in sorted(a["axes"] if axes is None else axes):
        x = x.unsqueeze(axis)
    return x


def _gelu(a: Attributes, x: Tensor) -> Tensor:
    return F.gelu(x, approximate=a.get("approximate", "none"))


OPERATORS: dict[str, Operator] = {
    "Abs": lambda a, x: torch.abs(x),
    "Add": lambda a, x, y: x + y,
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": lambda a, *xs: torch.cat(xs, a["axis"]),
    "Conv": _conv,
    "Div": lambda a, x, y: x / y,
    "Dropout": lambda a, x, *rest: x,
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Erf": lambda a, x: torch.erf(x),
    "Exp": lambda a, x: torch.exp(x),
    "Flatten": lambda a, x: x.flatten(a.get("axis", 1)),
    "Gather": _gather,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda a, x: x.mean(tuple(range(2, x.dim())), True),
    "HardSigmoid": lambda a, x: torch.clamp(a.get("alpha", 0.2) * x + a.get("beta", 0.5), 0, 1),
    "HardSwish": lambda a, x: F.hardswish(x),
    "Identity": lambda a, x: x,
    "LayerNormalization": _norm,
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "Log": lambda a, x: torch.log(x),
    "MatMul": lambda a, x, y: torch.matmul(x, y),
    "Max": lambda a, x, y: torch.maximum(x, torch.as_tensor(y, dtype=x.dtype)),
    "MaxPool": _max_pool,
    "Min": lambda a, x, y: torch.minimum(x, torch.as_tensor(y, dtype=x.dtype)),
    "Mul": lambda a, x, y: x * y,
    "Neg": lambda a, x: -x,
    "Pad": _pad,
    "Pow": lambda a, x, y: torch.pow(x, y),
    "ReduceMean": _mean,
    "Relu": lambda a, x: F.relu(x),
    "Reshape": _reshape,
    "Sigmoid": lambda a, x: torch.sigmoid(x),
    "Slice": _slice,
    "Softmax": lambda a, x: F.softmax(x, a.get("axis", -1)),
    "Sqrt": lambda a, x: torch.sqrt(x),
    "Squeeze": _squeeze,
    "Sub": lambda a, x, y: x - y,
    "Tanh": lambda a, x: torch.tanh(x),
    "Transpose": lambda a, x: x.permute(tuple(a["perm"])),
    "Unsqueeze": _unsqueeze,
}
"""What is written, by its ONNX name."""
