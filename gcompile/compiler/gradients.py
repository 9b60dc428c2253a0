"""Gradients for passes that ask for them, where PyTorch is installed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import PassError, UsageError
from gcompile.passes import Arrays


def row_gradients(
    model: ir.Model, rows: Arrays, labels: NDArray[np.generic] | None, seed: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """See `gcompile.train.gradients.row_gradients`; PyTorch is loaded only when it is asked.

    Raises:
        PassError: PyTorch is not installed, or cannot run some of the nodes.
    """
    try:
        from gcompile.train.gradients import row_gradients as of_torch
    except ModuleNotFoundError as error:
        raise PassError(
            f"Gradients need {error.name}, which is not installed: pip install 'gcompile[train]', "
            "or use importance=reconstruction."
        ) from error
    try:
        yield from of_torch(model, rows, labels, seed)
    except UsageError as error:
        raise PassError(f"{error} Without gradients, importance=reconstruction ranks.") from error
