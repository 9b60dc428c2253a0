"""What MODEL on the command line stands for: a file, or a factory of PyTorch modules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gcompile import ir
from gcompile.errors import UsageError

if TYPE_CHECKING:
    from gcompile.compiler.sources import Source


def read_source(
    text: str, input_shapes: Sequence[str], values: Mapping[str, str] | None = None
) -> tuple[Source, ir.Inputs | None]:
    """Return the model and the example inputs it needs, if any; freeze the inputs with values.

    A factory may return its example inputs beside the module; those of the command line win.

    Raises:
        UsageError: An input shape cannot be used, or the factory cannot be imported.
        InvalidModelError: The factory fails.
    """
    shapes = [ir.InputShape.parse(shape) for shape in input_shapes]
    if not ir.is_module_spec(text):
        if shapes:
            raise UsageError(
                "--input-shape is for PyTorch modules, MODULE:FACTORY. Bind the free dimensions "
                "of a file with --shape NAME=SIZES."
            )
        return frozen(text, values or {}), None
    if values:
        raise UsageError(
            "--freeze is for files. Let the factory return a module without the input."
        )
    made = ir.load_module(text)
    inputs = None
    if isinstance(made, tuple) and len(made) == 2:
        made, inputs = made
    return cast("ir.TorchModule", made), ir.example_inputs(shapes) if shapes else inputs


def frozen(path: str, values: Mapping[str, str]) -> ir.Model | str:
    """The file, or where inputs are frozen what is read from it.

    Raises:
        UsageError: The file does not exist, or a value does not fit its input.
        InvalidModelError: The file is not an ONNX model, or is damaged.
    """
    if not values:
        return path
    file = Path(path)
    model = ir.load_pt2(file) if file.suffix == ".pt2" else ir.read_file(file)
    ir.freeze_inputs(model, values)
    model.graph.name = file.stem
    return model


def model_name(text: str) -> str:
    """What a folder or a report is called after: the file or the factory."""
    return text.rpartition(":")[2] if ir.is_module_spec(text) else Path(text).stem
