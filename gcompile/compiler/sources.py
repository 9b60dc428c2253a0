"""Models in every form that they come in, made into graphs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gcompile import ir
from gcompile.errors import UsageError

Source = ir.Model | str | Path | ir.TorchModule
"""A model: an ONNX file, a graph, a PyTorch module or an exported program."""


def read_graph(
    model: Source, example_inputs: ir.Inputs | None, dynamic_shapes: object
) -> ir.Model | Path:
    """Make a graph of a PyTorch module or of a `.pt2` file; others are as they are.

    Raises:
        UsageError: It is no model, or example inputs are given for one that needs none.
        ExportError: The module cannot become a graph.
    """
    if not isinstance(model, (ir.Model, str, Path)):
        return ir.from_torch(model, example_inputs, dynamic_shapes)
    if example_inputs is not None or dynamic_shapes is not None:
        raise UsageError(
            "Example inputs and dynamic shapes are for PyTorch modules. Give the shapes of an "
            "ONNX model's inputs with shapes={'input': (1, 3, 224, 224)}."
        )
    if isinstance(model, ir.Model):
        return model
    return ir.load_pt2(Path(model)) if Path(model).suffix == ".pt2" else Path(model)


def load_model(
    model: ir.Model | str | Path,
    shapes: ir.Shapes | None,
    batch: int = 1,
    sizes: Mapping[str, int] | None = None,
) -> tuple[ir.Model, str]:
    """A ready model that may be changed, and its name; the caller's model is left alone."""
    graph = read_graph(model, None, None)
    if isinstance(graph, ir.Model):
        return ir.prepare(graph.clone(), shapes, batch, sizes), str(graph.graph.name or "model")
    return ir.load(graph, shapes, batch, sizes), graph.stem
