"""A graph as a PyTorch module: its weights are parameters, and can be written back.

Any batch may pass, whatever batch the graph was made ready for. Quantized weights train as the
real numbers behind them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.train.operators import OPERATORS
from gcompile.train.quantizers import Grid

_DECODING = "DequantizeLinear"
_CODING = "QuantizeLinear"
_FIXED_INPUTS = {"BatchNormalization": (3, 4)}
"""Inputs that are statistics, not parameters."""


@dataclass(frozen=True)
class _Step:
    run: Callable[..., Tensor]
    inputs: tuple[str | None, ...]
    output: str


class GraphModule(torch.nn.Module):  # type: ignore[misc]
    """Runs the nodes of a ready model in order.

    Attributes:
        masks: Zeros where a parameter stays zero, by the name of its initializer.
        noise: Where relaxed rounding takes its noise from; None rounds to the nearest integer.
    """

    def __init__(self, model: ir.Model) -> None:
        """Read a model, which stays as it is until `write_to`.

        Raises:
            UsageError: PyTorch cannot run some of its nodes here.
        """
        super().__init__()
        self.masks: dict[str, Tensor] = {}
        self.noise: torch.Generator | None = None
        self._batch = _batch_of(model)
        self._inputs = [str(value.name) for value in model.graph.inputs]
        self._outputs = [str(value.name) for value in model.graph.outputs]
        self._constants: dict[str, Any] = {}
        self._parameters_of: dict[str, str] = {}
        self._grids: dict[str, Grid] = {}
        _check(model)
        for value in model.graph.initializers.values():
            self._keep(value)
        self._steps = [self._step(node) for node in model.graph]

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of a batch; inputs in the order of the graph's."""
        values: dict[str, Any] = dict(self._constants)
        for name in self._parameters_of:
            values[name] = self._weight(name)
        values.update(zip(self._inputs, inputs, strict=True))
        for step in self._steps:
            values[step.output] = step.run(
                *(None if name is None else values[name] for name in step.inputs)
            )
        return tuple(values[name] for name in self._outputs)

    def weights(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The parameters of two dimensions or more, by the names of their initializers."""
        for name, slot in self._parameters_of.items():
            parameter = getattr(self, slot)
            if parameter.dim() > 1:
                yield name, parameter

    def write_to(self, model: ir.Model) -> int:
        """Write the parameters into the initializers that they came from; count those changed."""
        changed = 0
        with torch.no_grad():
            for name in self._parameters_of:
                value = model.graph.initializers[name]
                weight = self._weight(name, is_quantized=False)
                before = ir.constant_array(value)
                assert before is not None
                grid = self._grids.get(name)
                trained = weight.numpy() if grid is None else grid.integers(weight)
                array = np.ascontiguousarray(trained.astype(before.dtype))
                if not np.array_equal(array, before):
                    value.const_value = ir.tensor(array, dtype=value.dtype, name=name)
                    changed += 1
        return changed

    def _weight(self, name: str, *, is_quantized: bool = True) -> Tensor:
        parameter = getattr(self, self._parameters_of[name])
        masked = parameter * self.masks[name] if name in self.masks else parameter
        grid = self._grids.get(name) if is_quantized else None
        return masked if grid is None else grid.dequantize(grid.quantize(masked, self.noise))

    def _keep(self, value: ir.Value) -> None:
        """Scalars, shapes and axes are Python numbers; everything else is a tensor."""
        name, array = str(value.name), ir.constant_array(value)
        assert array is not None
        decoder = _decoder_of(value)
        if decoder is not None:
            grid = Grid.of(decoder)
            integers = torch.from_numpy(np.array(array, np.float32))
            self._grids[name] = grid
            self._own(name, grid.dequantize(integers))
        elif array.ndim == 0:
            self._constants[name] = array.item()
        elif array.dtype.kind in "iu" and array.ndim == 1:
            self._constants[name] = array.tolist()
        elif array.dtype == np.float32 and not _is_fixed(value):
            self._own(name, torch.from_numpy(np.array(array)))
        else:
            self._constants[name] = torch.from_numpy(np.array(array))

    def _own(self, name: str, tensor: Tensor) -> None:
        slot = f"parameter_{len(self._parameters_of)}"
        self._parameters_of[name] = slot
        self.register_parameter(slot, torch.nn.Parameter(tensor))

    def _step(self, node: ir.Node) -> _Step:
        inputs = tuple(None if value is None else str(value.name) for value in node.inputs)
        output = str(node.outputs[0].name)
        if node.op_type == _CODING:
            grid = Grid.of(node)
            return _Step(lambda x: grid.quantize(x, self.noise), inputs[:1], output)
        if node.op_type == _DECODING:
            if inputs[0] in self._grids:  # The parameter is the real weight already.
                return _Step(lambda x: x, inputs[:1], output)
            return _Step(Grid.of(node).dequantize, inputs[:1], output)
        run = functools.partial(OPERATORS[node.op_type], _attributes(node))
        if node.op_type == "Reshape" and self._batch is not None:
            return _Step(functools.partial(_reshape_any_batch, self._batch), inputs, output)
        return _Step(run, inputs, output)


def _check(model: ir.Model) -> None:
    """Refuse what has no gradient here, all at once."""
    known = {*OPERATORS, _CODING, _DECODING}
    missing = sorted({node.op_type for node in ir.all_nodes(model)} - known)
    if missing:
        raise UsageError(
            f"Training knows no gradient of {', '.join(missing)}; train the model before it is "
            "compiled, or fine-tune it where it was made."
        )


def _attributes(node: ir.Node) -> Mapping[str, Any]:
    return {name: attribute.value for name, attribute in node.attributes.items()}


def _decoder_of(value: ir.Value) -> ir.Node | None:
    """The DequantizeLinear that reads the numbers of a constant."""
    readers = [(node, index) for node, index in value.uses() if node.op_type == _DECODING]
    return readers[0][0] if readers and readers[0][1] == 0 else None


def _is_fixed(value: ir.Value) -> bool:
    """Steps of quantizers and statistics stay as they are."""
    for node, index in value.uses():
        if node.op_type in (_CODING, _DECODING) or index in _FIXED_INPUTS.get(node.op_type, ()):
            return True
    return False


def _batch_of(model: ir.Model) -> int | None:
    """The batch that the shapes of the model say, if its inputs agree on one."""
    sizes = {ir.static_shape(value)[0] for value in model.graph.inputs if ir.static_shape(value)}
    return sizes.pop() if len(sizes) == 1 else None


def _reshape_any_batch(batch: int, x: Tensor, shape: list[int]) -> Tensor:
    sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(shape)]
    if sizes[0] == batch and x.shape[0] != batch and -1 not in sizes[1:]:
        sizes[0] = -1
    elif sizes[0] == batch and x.shape[0] != batch:
        sizes[0] = x.shape[0]
    return x.reshape(sizes)
