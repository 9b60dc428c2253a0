"""Make inputs of a model constants: those that choose a branch, a rate or a size."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir

from gcompile.errors import UsageError
from gcompile.ir.constants import Array, add_constant
from gcompile.ir.read import OPSET
from gcompile.ir.static.branches import inline_known_branches

Values = Mapping[str, str | int | float | bool | Array]
"""What inputs are frozen to, by name. Text holds numbers, separated by commas."""


def freeze_inputs(model: onnx_ir.Model, values: Values) -> None:
    """Replace inputs by constants, in place; a single value fills the input.

    Branches that the constants do not choose are left out: they may have no shapes.

    Args:
        model: As it was read: its dimensions may be free.
        values: See `Values`. They are converted to the input's type.

    Raises:
        UsageError: The model has no such input, or the value does not fit it.
    """
    inputs = {str(value.name): value for value in model.graph.inputs}
    for name, given in values.items():
        if name not in inputs:
            raise UsageError(
                f"--freeze names an input the model does not have: {name}. Its inputs are: "
                f"{', '.join(inputs)}."
            )
        value = inputs[name]
        array = _array_for(value, given)
        value.name = f"{name}::frozen"
        value.replace_all_uses_with(add_constant(model.graph, name, array))
        model.graph.inputs.remove(value)
    if values:
        inline_known_branches(model.graph, model.graph.opset_imports.get("", OPSET))


def _array_for(value: onnx_ir.Value, given: str | int | float | bool | Array) -> Array:
    dtype = (value.dtype or onnx_ir.DataType.FLOAT).numpy()
    try:
        numbers = [_number(part) for part in given.split(",")] if isinstance(given, str) else given
        exact = np.asarray(numbers)
        array = exact.astype(dtype)
    except (ValueError, OverflowError):
        raise _unfit(value, given, f"is not a number of type {dtype}") from None
    if dtype.kind in "iub" and not np.array_equal(array, exact):
        raise _unfit(value, given, f"is not a number of type {dtype}")
    if value.shape is None:
        return array.reshape(()) if array.size == 1 else array
    sizes = [dim if isinstance(dim, int) and dim >= 0 else None for dim in value.shape]
    if array.size == 1:
        return np.full([1 if size is None else size for size in sizes], array.reshape(()), dtype)
    fits = array.ndim == len(sizes) and all(
        size in (None, length) for size, length in zip(sizes, array.shape, strict=True)
    )
    if not fits:
        shape = ",".join("?" if size is None else str(size) for size in sizes)
        raise _unfit(value, given, f"has the shape {array.shape}, and the input [{shape}]")
    return array


def _number(text: str) -> int | float | bool:
    word = text.strip().lower()
    if word in ("true", "false"):
        return word == "true"
    try:
        return int(word)
    except ValueError:
        return float(word)


def _unfit(value: onnx_ir.Value, given: object, reason: str) -> UsageError:
    return UsageError(
        f"--freeze {value.name}: the value {given!s:.60} {reason}. Give one number, which "
        "fills the input, or as many as it has: --freeze rate=16000."
    )
