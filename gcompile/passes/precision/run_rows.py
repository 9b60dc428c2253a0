"""Run a model on many rows, whatever batch it was made for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from gcompile import ir
from gcompile.passes.base import Arrays, Runner

ROWS_PER_RUN = 16


@runtime_checkable
class RowRunner(Protocol):
    """A runner that takes many rows at once, and knows when that gives the same outputs."""

    def run_rows(
        self,
        model: ir.Model,
        inputs: Arrays,
        whole: ir.Model | None = None,
        *,
        is_quick: bool = False,
    ) -> dict[str, ir.Array]:
        """Run every row; axis 0 holds a multiple of each input's leading dimension.

        Several threads may call at once. `whole` is the model that `model` was cut from: where its
        rows do not depend on each other, those of its pieces do not either. `is_quick` allows
        float nodes to be fused, which rounds their results in another way.
        """


def run_rows(
    model: ir.Model,
    rows: Arrays,
    run: Runner,
    whole: ir.Model | None = None,
    *,
    is_quick: bool = False,
) -> dict[str, ir.Array]:
    """Run every row, all at once where the runner can, else one inference at a time.

    Outputs are joined along axis 0. `whole` and `is_quick` help runners that know them.
    """
    if isinstance(run, RowRunner):
        return run.run_rows(model, rows, whole, is_quick=is_quick)
    shapes = {str(value.name): ir.static_shape(value) for value in model.graph.inputs}
    found = [
        run(model, {name: array.reshape(shapes[name]) for name, array in piece.items()})
        for piece in batches(rows, model, 1)
    ]
    return {
        name: np.concatenate([np.atleast_1d(outputs[name]) for outputs in found])
        for name in found[0]
    }


def inferences(rows: Arrays, model: ir.Model) -> int:
    """For how many inferences of the model there are rows."""
    return next((len(rows[name]) // lead for name, lead in _leading(model).items()), 1)


def batches(rows: Arrays, model: ir.Model, size: int = ROWS_PER_RUN) -> Iterator[Arrays]:
    """Cut rows into pieces of at most `size` inferences of the model; scalars belong to each."""
    leading = _leading(model)
    for start in range(0, inferences(rows, model), size):
        yield {
            name: array[start * leading[name] : (start + size) * leading[name]]
            if name in leading
            else array
            for name, array in rows.items()
        }


def _leading(model: ir.Model) -> dict[str, int]:
    """The leading dimension of every input that has one."""
    shapes = {str(value.name): ir.static_shape(value) for value in model.graph.inputs}
    return {name: shape[0] for name, shape in shapes.items() if shape}
