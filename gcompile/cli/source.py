"""What MODEL on the command line stands for: a file, or a factory of PyTorch modules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from gcompile import ir
from gcompile.errors import UsageError

if TYPE_CHECKING:
    from gcompile.compiler.job import Source


def read_source(text: str, input_shapes: Sequence[str]) -> tuple[Source, ir.Inputs | None]:
    """Return the model and the example inputs it needs, if any.

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
        return text, None
    made = ir.load_module(text)
    inputs = None
    if isinstance(made, tuple) and len(made) == 2:
        made, inputs = made
    return cast("ir.TorchModule", made), ir.example_inputs(shapes) if shapes else inputs


def model_name(text: str) -> str:
    """What a folder or a report is called after: the file or the factory."""
    return text.rpartition(":")[2] if ir.is_module_spec(text) else Path(text).stem
