"""Bind free dimensions and give every value its static shape, once."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import onnx_ir

from gcompile.errors import InvalidModelError, UsageError
from gcompile.ir.constants import add_constant, return_constant
from gcompile.ir.evaluate import evaluate_node
from gcompile.ir.infer import infer_graph
from gcompile.ir.unknown_shapes import why_unknown
from gcompile.ir.walk import all_graphs, all_nodes

_SMALL = 4096
"""Elements of a constant that may take part in shape arithmetic."""

_INTEGER = frozenset({int})

Shapes = Mapping[str, tuple[int, ...]]
"""A static shape for each graph input named."""


def static_shape(value: onnx_ir.Value | None) -> tuple[int, ...]:
    """Return the value's shape.

    Raises:
        InvalidModelError: The shape is unknown or not static.
    """
    # Pricing asks for every shape of the model after every pass: one look at the dimensions.
    shape = value.shape if value is not None else None
    sizes = shape.dims if shape is not None else (None,)
    if not _INTEGER.issuperset(map(type, sizes)):
        raise InvalidModelError(why_unknown(value))
    return cast("tuple[int, ...]", sizes)


def free_dimensions(model: onnx_ir.Model) -> dict[str, list[tuple[str, int]]]:
    """Return where each free dimension of the inputs stands: input and axis.

    A dimension without a name is called after its place, such as `x[0]`.
    """
    places: dict[str, list[tuple[str, int]]] = {}
    for value in model.graph.inputs:
        for axis, dim in enumerate(value.shape or ()):
            if not isinstance(dim, int) and value.name not in model.graph.initializers:
                places.setdefault(_symbol(value, axis), []).append((str(value.name), axis))
    return places


def free_unnamed_sizes(model: onnx_ir.Model) -> None:
    """Make dimensions of inputs free that say -1 or ?, each for itself; in place.

    Some exporters write so what ONNX leaves empty.
    """
    for value in model.graph.inputs:
        if value.shape is not None and any(map(_is_unnamed, value.shape)):
            value.shape = onnx_ir.Shape([None if _is_unnamed(d) else d for d in value.shape])


def _is_unnamed(dim: int | onnx_ir.SymbolicDim) -> bool:
    return dim < 0 if isinstance(dim, int) else dim.value in ("?", "-1", "None", "")


def bind_shapes(
    model: onnx_ir.Model, shapes: Shapes, batch: int = 1, sizes: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Give every graph input a static shape; return the free dimensions bound by default.

    A free leading dimension that all free inputs share a position for is the batch: it is bound to
    one sample, because budgets are joules per sample. Every other free dimension must be given, in
    `shapes` by input, or in either by its own name.

    Raises:
        UsageError: A shape names an unknown input, contradicts the model, or is missing.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    symbols = free_dimensions(model)
    named = {
        name: shape[0]
        for name, shape in shapes.items()
        if name not in inputs and name in symbols and len(shape) == 1
    }
    shapes = {name: shape for name, shape in shapes.items() if name not in named}
    if unknown := [name for name in shapes if name not in inputs]:
        raise UsageError(
            f"--shape names an input the model does not have: {', '.join(unknown)}. "
            f"Its inputs are: {', '.join(inputs)}."
        )
    bound = dict(sizes or {}) | named
    for name, shape in shapes.items():
        _bind_one(inputs[name], shape, bound)
    defaults = _bind_batch(inputs, bound, batch)
    free = {n: f for n, v in inputs.items() if (f := _free_dimensions(v, bound))}
    if free:
        listed = "; ".join(f"{name} has {', '.join(dims)}" for name, dims in free.items())
        example = next(iter(free))
        pattern = ",".join(_dim_text(d, bound) for d in inputs[example].shape or ())
        raise UsageError(
            f"The model has free dimensions: {listed}. Bind them with "
            f"--shape {example}={pattern}, a number in place of each name."
        )
    for value in inputs.values():
        dims = [bound[_symbol(value, i)] if not isinstance(d, int) else d
                for i, d in enumerate(value.shape or ())]  # fmt: skip
        value.shape = onnx_ir.Shape(dims)
    return defaults


def infer_shapes(model: onnx_ir.Model) -> None:
    """Recompute the shape of every value from the inputs' static shapes."""
    _forget_shapes(model)
    infer_graph(model.graph, model.opset_imports)
    if all(_is_known(value) for node in all_nodes(model) for value in node.outputs):
        return
    _infer_through_constants(model)


def fold_shape_arithmetic(model: onnx_ir.Model) -> None:
    """Turn small nodes whose inputs are all known into constants: exporters compute shapes so."""
    while _fold_known(model, model.graph.opset_imports.get("", 21)):
        pass


def _symbol(value: onnx_ir.Value, axis: int) -> str:
    dim = (value.shape or ())[axis]
    name = getattr(dim, "value", None)
    return str(name) if name else f"{value.name}[{axis}]"


def _dim_text(dim: int | onnx_ir.SymbolicDim, bound: Mapping[str, int]) -> str:
    if isinstance(dim, int):
        return str(dim)
    return str(bound.get(str(dim.value), dim.value or "?"))


def _free_dimensions(value: onnx_ir.Value, bound: Mapping[str, int]) -> list[str]:
    if value.shape is None:
        return ["an unknown rank"]
    return [
        _symbol(value, i)
        for i, dim in enumerate(value.shape)
        if not isinstance(dim, int) and _symbol(value, i) not in bound
    ]


def _bind_one(value: onnx_ir.Value, shape: tuple[int, ...], bound: dict[str, int]) -> None:
    if any(d <= 0 for d in shape):
        raise UsageError(f"--shape {value.name}: every dimension must be positive, got {shape}.")
    if value.shape is None:
        value.shape = onnx_ir.Shape(shape)
        return
    wanted = ",".join(str(d if isinstance(d, int) else d.value or "?") for d in value.shape)
    said = ",".join(map(str, shape))
    if len(shape) != len(value.shape):
        raise UsageError(
            f"--shape {value.name}={said} has {len(shape)} dimensions, but the model's input has "
            f"{len(value.shape)}: {wanted}."
        )
    for axis, (dim, size) in enumerate(zip(value.shape, shape, strict=True)):
        fixed = dim if isinstance(dim, int) else bound.setdefault(_symbol(value, axis), size)
        if fixed != size:
            raise UsageError(
                f"--shape {value.name}={said} sets dimension {axis} to {size}, but it is {fixed}: "
                f"the model's input is {wanted}."
            )


def _bind_batch(
    inputs: Mapping[str, onnx_ir.Value], bound: dict[str, int], batch: int
) -> dict[str, int]:
    """Bind free leading dimensions to the batch; return those that were."""
    defaults: dict[str, int] = {}
    for value in inputs.values():
        if value.shape is None or len(value.shape) < 2 or isinstance(value.shape[0], int):
            continue
        symbol = _symbol(value, 0)
        if symbol not in bound:
            defaults[symbol] = bound[symbol] = batch
    return defaults


def _is_known(value: onnx_ir.Value) -> bool:
    return not value.name or (value.shape is not None and value.shape.is_static())


def _forget_shapes(model: onnx_ir.Model) -> None:
    for node in all_nodes(model):
        for value in node.outputs:
            value.shape = None
    for graph in all_graphs(model):
        for value in graph.outputs:
            if not value.is_graph_input() and value.const_value is None:
                value.shape = None


def _infer_through_constants(model: onnx_ir.Model) -> None:
    """Fold shape arithmetic in a copy, infer there, and bring the shapes back by name."""
    copy = model.clone()
    opset = copy.graph.opset_imports.get("", 21)
    while _fold_known(copy, opset):
        infer_graph(copy.graph, copy.opset_imports)
    found = {value.name: value for node in all_nodes(copy) for value in node.outputs}
    for graph in all_graphs(copy):
        found.update({value.name: value for value in graph.initializers.values()})
    for node in all_nodes(model):
        for value in node.outputs:
            source = found.get(value.name)
            if not _is_known(value) and source is not None and _is_known(source):
                value.shape, value.type = source.shape, source.type or value.type


def _fold_known(model: onnx_ir.Model, opset: int) -> int:
    folded = 0
    for graph in all_graphs(model):
        for node in graph:
            arrays = evaluate_node(node, opset) if not _is_large(node) else None
            if arrays is None or (
                node.op_type == "Identity" and node.outputs[0].is_graph_output()
            ):
                continue
            for value, array in zip(node.outputs, arrays, strict=True):
                if value.is_graph_output():
                    return_constant(graph, value, array)
                    continue
                name = str(value.name)
                value.name = f"{name}__folded"
                value.replace_all_uses_with(add_constant(graph, name, array))
            graph.remove(node, safe=True)
            folded += 1
    return folded


def _is_large(node: onnx_ir.Node) -> bool:
    """Shape arithmetic is small; weights are not looked at here, and masks are not made."""
    if node.op_type in ("Shape", "Size"):
        return False
    return any(
        value is not None and value.const_value is not None and value.const_value.size > _SMALL
        for value in node.inputs
    ) or any(
        value.shape is not None
        and value.shape.is_static()
        and math.prod(value.shape.numpy()) > _SMALL
        for value in node.outputs
    )
