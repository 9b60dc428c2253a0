"""RNN, GRU and LSTM: one product for the inputs of all steps, then one kernel for the steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.kernels.cells import Activation
from gcompile.backends.tvm.kernels.packing import pack_weights, steps_ahead
from gcompile.backends.tvm.kernels.recurrent_net import Direction, RecurrenceKernel
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Output,
    PerChannel,
    ProductKernel,
)
from gcompile.backends.tvm.lowering.arrangement import Arranged
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.products import rows_of_pixels
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError

_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_ACTIVATIONS: dict[str, tuple[str, tuple[float, ...]]] = {
    "relu": ("relu", ()), "tanh": ("tanh", ()), "sigmoid": ("sigmoid", ()),
    "softsign": ("softsign", ()), "softplus": ("softplus", ()),
    "affine": ("affine", (1.0, 0.0)), "leakyrelu": ("leaky_relu", (0.01,)),
    "thresholdedrelu": ("thresholded_relu", (1.0,)), "scaledtanh": ("scaled_tanh", (1.0, 1.0)),
    "hardsigmoid": ("hard_sigmoid", (0.2, 0.5)), "elu": ("elu", (1.0,)),
}  # fmt: skip
"""Functions by their names in small letters, with the defaults of their parameters."""


def refusal_of_recurrence(node: ir.Node) -> str | None:
    """Why a recurrent net cannot be compiled, or None if it can."""
    reals = (*node.inputs[:4], *node.inputs[5:])
    if any(value is not None and value.dtype is not ir.DataType.FLOAT for value in reals):
        return "recurrent nets run in float32 only"
    names = node.attributes.get_strings("activations", [])
    unknown = [name for name in names if name.lower() not in _ACTIVATIONS]
    return f"ONNX defines no activation {unknown[0]!r:.30}" if unknown else None


def lower_recurrence(region: ir.Region, memory: Memory) -> None:
    """Emit a region of one recurrent net.

    Raises:
        CannotEmitError: It has a type or an activation that kernels do not know.
    """
    (node,) = region.nodes
    if reason := refusal_of_recurrence(node):
        raise CannotEmitError(reason)
    wanted = {
        name: value
        for name, value in zip("yhc", node.outputs, strict=False)
        if value in region.outputs
    }
    kernel = _kernel(node, tuple(wanted), memory, region.tile.threads if region.tile else 1)
    net = _Net(node, kernel, memory)
    operands = [net.projected(region.tile), *net.operands()]
    var = memory.emission.call(kernel, operands, kernel.output.image)
    start = 0
    for value, size in zip(wanted.values(), kernel.result_sizes, strict=True):
        part = var
        if len(wanted) > 1:
            part = memory.emission.emit(relax.op.strided_slice(var, [0], [start], [start + size]))
        reshaped = relax.op.reshape(part, ir.static_shape(value))
        memory.put_rows(value, memory.emission.emit(reshaped))
        start += size


def _kernel(
    node: ir.Node, results: tuple[str, ...], memory: Memory, threads: int
) -> RecurrenceKernel:
    """The steps, as a kernel that writes these results."""
    sizes, attributes = ir.recurrence_of(node), node.attributes
    assert sizes is not None
    kernel = RecurrenceKernel(
        output=Output(Image(1, 1, 1, 1)),
        expression=Accumulator(),
        operator=sizes.operator,
        steps=sizes.steps,
        batch=sizes.batch,
        hidden=sizes.hidden,
        directions=tuple(_directions(node, sizes)),
        clip=attributes.get_float("clip", 0.0),
        resets_inside=sizes.operator == "GRU" and _flag(node, "linear_before_reset"),
        couples_forgetting=_flag(node, "input_forget"),
        has_lengths=_input(node, 4) is not None,
        has_first_h=_input(node, 5) is not None,
        has_first_c=_input(node, 6) is not None,
        has_peepholes=_input(node, 7) is not None,
        results=results,
        **memory.emission.shared(threads),
    )
    count = sum(kernel.result_sizes)
    return replace(kernel, output=Output(Image(1, 1, 1, count, declared=(count,))))


def _directions(node: ir.Node, sizes: ir.Recurrence) -> Iterator[Direction]:
    """What each net is; parameters are handed out in the order of the functions that have any."""
    defaults = _DEFAULTS[sizes.operator]
    names = node.attributes.get_strings("activations", []) or defaults * sizes.directions
    alphas = iter(node.attributes.get_floats("activation_alpha", []))
    betas = iter(node.attributes.get_floats("activation_beta", []))
    way = node.attributes.get_string("direction", "forward")
    for index in range(sizes.directions):
        functions = []
        for name in names[index * len(defaults) : (index + 1) * len(defaults)]:
            function, parameters = _ACTIVATIONS[name.lower()]
            given = zip(parameters, (alphas, betas), strict=False)
            functions.append(Activation(function, *(next(own, usual) for usual, own in given)))
        yield Direction(way == "reverse" or index == 1, tuple(functions))


@dataclass(frozen=True)
class _Net:
    """What the kernel of a node reads."""

    node: ir.Node
    kernel: RecurrenceKernel
    memory: Memory

    def projected(self, tile: ir.Tile | None) -> relax.Expr:
        """The products of the inputs with their weights, biases added."""
        weights, bias = self._input_weights(), self._bias()
        if weights.array is not None and bias.array is not None and tile is not None:
            return self._by_our_kernel(weights.array, bias.array, tile)
        x = self.memory.plain(_given(self.node, 0))
        emit, rows = self.memory.emission.emit, self.kernel.steps * self.kernel.batch
        x = emit(relax.op.reshape(x, (rows, weights.shape[1])))
        product = emit(relax.op.matmul(x, weights.transposed((1, 0)).expression))
        total = emit(relax.op.add(product, bias.expression))
        return emit(relax.op.reshape(total, (1, 1, rows, weights.shape[0])))

    def operands(self) -> Iterator[relax.Expr]:
        """What follows the projected inputs."""
        kernel, count = self.kernel, len(self.kernel.directions)
        yield self._recurrent_weights().expression
        if kernel.resets_inside:
            inside = self._biases(recurrent=True).part(1, 2, 3)
            yield inside.reshaped((count, kernel.padded)).expression
        if (peepholes := _input(self.node, 7)) is not None:
            three = Arranged.of(peepholes, self.memory).reshaped((count, 3, kernel.hidden))
            yield three.padded(2, kernel.padded).expression
        for index in (5, 6):
            if (first := _input(self.node, index)) is not None:
                yield Arranged.of(first, self.memory).expression
        if (lengths := _input(self.node, 4)) is not None:
            yield self.memory.plain(lengths)

    def _by_our_kernel(self, weights: ir.Array, bias: ir.Array, tile: ir.Tile) -> relax.Expr:
        emission = self.memory.emission
        shape = ir.Contraction.matmul(
            self.kernel.steps * self.kernel.batch, weights.shape[1], weights.shape[0]
        )
        placement = rows_of_pixels(self.memory, _given(self.node, 0), shape)
        image = Image(1, 1, shape.m, shape.out_c)
        kernel = ProductKernel(
            output=Output(image),
            expression=Binary("add", Accumulator(), PerChannel(0)),
            channel_vectors=1,
            contraction=shape,
            x=placement.image,
            tile=tile,
            **emission.shared(tile.threads),
        )
        kernel = replace(kernel, ahead=steps_ahead(kernel, emission.cache_bytes))
        packed = pack_weights(kernel, np.asarray(weights, np.float32)[:, :, None, None])
        operands = [placement.var, emission.constant(packed), emission.constant(bias)]
        return emission.call(kernel, operands, image)

    def _input_weights(self) -> Arranged:
        """(directions · gates · padded hidden, inputs)."""
        weights = self._by_gate(_given(self.node, 1)).padded(2, self.kernel.padded)
        directions, gates, padded, depth = weights.shape
        return weights.reshaped((directions * gates * padded, depth))

    def _recurrent_weights(self) -> Arranged:
        """As one line: (directions, phases, vectors, hidden, gates, lanes)."""
        kernel, count = self.kernel, len(self.kernel.directions)
        weights = self._by_gate(_given(self.node, 2)).padded(2, kernel.padded)
        lanes, hidden = kernel.lanes.count, kernel.hidden
        packed: Arranged | None = None
        for phase in kernel.cell.phases:
            own = weights.part(1, phase.first_gate, phase.first_gate + phase.gates)
            own = own.reshaped((count, phase.gates, kernel.vectors, lanes, hidden))
            size = phase.gates * kernel.padded * hidden
            own = own.transposed((0, 2, 4, 1, 3)).reshaped((count, size))
            packed = own if packed is None else packed.followed_by(own, 1)
        assert packed is not None
        return packed.reshaped((kernel.weight_count,))

    def _by_gate(self, value: ir.Value) -> Arranged:
        """Weights as (directions, gates, hidden, depth)."""
        directions, _, depth = ir.static_shape(value)
        shape = (directions, self.kernel.cell.gates, self.kernel.hidden, depth)
        return Arranged.of(value, self.memory).reshaped(shape)

    def _bias(self) -> Arranged:
        """What is added to the inputs: both biases, but for one that is added inside a gate."""
        kernel = self.kernel
        outside, recurrent = self._biases(recurrent=False), self._biases(recurrent=True)
        if kernel.resets_inside:
            recurrent = recurrent.part(1, 0, 2).padded(1, 3)
        total = outside.plus(recurrent)
        return total.reshaped((len(kernel.directions) * kernel.cell.gates * kernel.padded,))

    def _biases(self, *, recurrent: bool) -> Arranged:
        """(directions, gates, padded hidden), zeros where the net has none."""
        kernel, count = self.kernel, len(self.kernel.directions)
        gates, value = kernel.cell.gates, _input(self.node, 3)
        if value is None:
            zeros = np.zeros((count, gates, kernel.padded), np.float32)
            return Arranged(self.memory.emission, zeros.shape, array=zeros)
        both = Arranged.of(value, self.memory).reshaped((count, 2, gates, kernel.hidden))
        own = both.part(1, int(recurrent), int(recurrent) + 1)
        return own.reshaped((count, gates, kernel.hidden)).padded(2, kernel.padded)


def _given(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    if value is None:
        raise CannotEmitError("an input that it needs is left out")
    return value


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _flag(node: ir.Node, name: str) -> bool:
    return bool(node.attributes.get_int(name, 0))
