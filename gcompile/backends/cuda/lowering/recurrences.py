"""RNN, GRU and LSTM as the kernel of their steps, with what it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.cuda.recurrence import RecurrenceKernel
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError

_USUAL = {"RNN": ["tanh"], "GRU": ["sigmoid", "tanh"], "LSTM": ["sigmoid", "tanh", "tanh"]}

Array = NDArray[Any]


@dataclass(frozen=True)
class Recurrent:
    """A recurrent net.

    Attributes:
        inputs: The sequence (steps, batch, depth), then the first states it is given.
        projection: (depth, directions · gates · hidden): what inputs are multiplied by.
        bias: What is added to that.
        constants: What the kernel reads after the projected inputs.
        outputs: The results that are used, in the kernel's order.
    """

    kernel: RecurrenceKernel
    inputs: tuple[ir.Value, ...]
    projection: Array
    bias: Array
    constants: tuple[Array, ...]
    outputs: tuple[ir.Value, ...]


def recurrence_of(region: ir.Region) -> Recurrent:
    """Read a region of one recurrent net.

    Raises:
        CannotEmitError: It has a type, weights, lengths or functions that the kernel does not do.
    """
    (node,) = region.nodes
    sizes = ir.recurrence_of(node)
    if sizes is None:
        raise CannotEmitError("it is no recurrent net")
    _check(node, sizes)
    weights, recurrent = (_constant(node, index) for index in (1, 2))
    both = _constant(node, 3) if _input(node, 3) is not None else None
    gates, hidden, count = sizes.gates, sizes.hidden, sizes.directions
    biases = np.zeros((count, 2, gates, hidden), np.float32)
    if both is not None:
        biases = both.reshape(biases.shape)
    resets_inside = sizes.operator == "GRU" and bool(
        node.attributes.get_int("linear_before_reset", 0)
    )
    total = biases.sum(1)
    constants = [recurrent.reshape(count, gates * hidden, hidden).swapaxes(1, 2)]
    if resets_inside:
        total[:, 2] = biases[:, 0, 2]
        constants.append(biases[:, 1, 2])
    wanted = {
        name: value
        for name, value in zip("yhc", node.outputs, strict=False)
        if value in region.outputs and value.name
    }
    way = node.attributes.get_string("direction", "forward")
    firsts = [_input(node, index) for index in (5, 6)]
    kernel = RecurrenceKernel(
        sizes.operator,
        sizes.steps,
        sizes.batch,
        hidden,
        tuple(way == "reverse" or index == 1 for index in range(count)),
        resets_inside,
        firsts[0] is not None,
        firsts[1] is not None,
        tuple(wanted),
    )
    sequence = _input(node, 0)
    assert sequence is not None
    return Recurrent(
        kernel,
        (sequence, *(value for value in firsts if value is not None)),
        np.ascontiguousarray(weights.reshape(-1, weights.shape[-1]).T),
        total.reshape(-1),
        tuple(np.ascontiguousarray(array) for array in constants),
        tuple(wanted.values()),
    )


def _check(node: ir.Node, sizes: ir.Recurrence) -> None:
    attributes = node.attributes
    if any(v is not None and v.dtype is not ir.DataType.FLOAT for v in node.inputs):
        raise CannotEmitError("recurrent nets run in float32 and without lengths only")
    clip: float = attributes.get_float("clip", 0.0)
    if _input(node, 7) is not None or clip:
        raise CannotEmitError("peepholes and clipped gates have no CUDA kernel")
    if attributes.get_int("layout", 0) or attributes.get_int("input_forget", 0):
        raise CannotEmitError("batches first and coupled gates have no CUDA kernel")
    usual = _USUAL[sizes.operator] * sizes.directions
    names = [name.lower() for name in attributes.get_strings("activations", []) or usual]
    if names != usual:
        raise CannotEmitError(f"gates of {', '.join(names)} have no CUDA kernel")


def _constant(node: ir.Node, index: int) -> Array:
    array = ir.constant_array(_input(node, index))
    if array is None:
        raise CannotEmitError("the weights of a recurrent net are not constant")
    return np.asarray(array, np.float32)


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None
