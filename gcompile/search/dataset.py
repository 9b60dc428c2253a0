"""Rows of data from `.npz` files, checked against the model they are for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.npz import read_arrays
from gcompile.passes import Arrays
from gcompile.passes.precision.ranges import check_finite

Array = NDArray[np.generic]

LABELS = "labels"


@dataclass(frozen=True)
class Dataset:
    """Rows for every input of one model.

    Attributes:
        inputs: One array per model input; axis 0 holds `count` times the input's leading
            dimension. A scalar is the same for every inference.
        count: How many inferences the rows make.
        labels: What an accuracy metric compares outputs with, one entry per row; None if absent.
    """

    inputs: dict[str, Array]
    count: int
    labels: Array | None = None

    def first(self, count: int) -> Dataset:
        """The first `count` inferences, or all where there are fewer."""
        return self.between(0, min(count, self.count))

    def between(self, start: int, stop: int) -> Dataset:
        """The inferences from `start` up to, not including, `stop`."""

        def cut(array: Array) -> Array:
            size = len(array) // self.count
            return array[start * size : stop * size]

        inputs = {name: cut(a) if a.ndim else a for name, a in self.inputs.items()}
        labels = cut(self.labels) if self.labels is not None else None
        return Dataset(inputs, stop - start, labels)


def read_dataset(
    source: str | Path | Arrays, model: ir.Model, what: str, *, needs_labels: bool = False
) -> Dataset:
    """Read rows for the model's inputs; `what` names them in messages: calibration, evaluation.

    Args:
        source: A `.npz` file with one array per model input, perhaps `labels`; or the arrays.
        model: The ready model the rows are for.
        what: What the rows are for.
        needs_labels: Refuse rows without labels.

    Raises:
        UsageError: The file cannot be read, an array is missing, unknown, empty, of another dtype
            or shape than the model's input, or holds NaN or infinity.
    """
    arrays = dict(source) if isinstance(source, Mapping) else read_arrays(Path(source))
    labels = arrays.pop(LABELS, None)
    wanted = {str(value.name): value for value in model.graph.inputs}
    _check_names(arrays, wanted, what)
    rows = {name: _rows(name, arrays[name], value, what) for name, value in wanted.items()}
    counts = {name: count for name, (array, count) in rows.items() if array.ndim}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise UsageError(f"The {what} arrays hold different numbers of rows: {listed}.")
    count = next(iter(counts.values()), 1)
    if needs_labels and labels is None:
        raise UsageError(
            f"The {what} rows have no array {LABELS!r}; add one with a label per row."
        )
    if labels is not None and (labels.ndim == 0 or len(labels) % count or not len(labels)):
        raise UsageError(
            f"Array {LABELS!r} of the {what} rows has shape {labels.shape}, "
            f"but there are {count} rows; give one label per row."
        )
    return Dataset({name: array for name, (array, _) in rows.items()}, count, labels)


def _check_names(arrays: Arrays, wanted: Mapping[str, ir.Value], what: str) -> None:
    missing = [name for name in wanted if name not in arrays]
    unknown = [name for name in arrays if name not in wanted]
    if missing or unknown:
        raise UsageError(
            f"The {what} rows do not match the model's inputs ({', '.join(wanted)}): "
            f"missing: {', '.join(missing) or 'none'}; unknown: {', '.join(unknown) or 'none'}."
        )


def _rows(name: str, array: Array, value: ir.Value, what: str) -> tuple[Array, int]:
    """The array with whole inferences along axis 0, and how many there are."""
    shape = ir.static_shape(value)
    dtype = value.dtype.numpy() if value.dtype else array.dtype
    if array.dtype != dtype:
        raise UsageError(
            f"Array {name!r} of the {what} rows has dtype {array.dtype}, "
            f"and the model's input takes {dtype}; convert it with .astype({str(dtype)!r})."
        )
    if not shape and not array.ndim:
        check_finite(name, array, what)
        return array, 1
    lead = shape[0] if shape else 1
    if (
        shape
        and array.ndim
        and array.shape[1:] == shape[1:]
        and len(array)
        and len(array) % lead == 0
    ):
        found = array
    elif shape and array.ndim and array.shape[1:] == shape and len(array):
        found = array.reshape((-1, *shape[1:]))
    else:
        first = "rows" if lead == 1 else f"a multiple of {lead}"
        row = (first, *map(str, shape[1:])) if shape else ()
        raise UsageError(
            f"Array {name!r} of the {what} rows has shape {array.shape}, "
            f"and the model's input takes ({', '.join(row)})."
        )
    check_finite(name, found, what)
    return found, len(found) // lead
