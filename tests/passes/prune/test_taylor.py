from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import PassError
from gcompile.passes import Arrays
from gcompile.passes.prune.groups import prune_groups
from gcompile.passes.prune.importance import Importance
from gcompile.passes.prune.prune_channels import PruneChannels
from gcompile.passes.prune.taylor import by_taylor
from tests.passes.precision.models import context, fused
from tests.passes.prune.test_prune_channels import PERCEPTRON


def of_first_output(
    model: ir.Model, rows: Arrays, labels: NDArray[np.generic] | None, seed: int
) -> Iterator[dict[str, NDArray[np.float32]]]:
    """Gradients of the first output of the perceptron by the weights that read its channels."""
    for hidden in _hidden(model, rows):
        slope = np.zeros((8, 3), np.float32)
        slope[:, 0] = hidden
        yield {"w2": slope}


def _hidden(model: ir.Model, rows: Arrays) -> NDArray[np.float64]:
    return np.maximum(
        np.asarray(rows["x"], float) @ _weight(model, "w1") + _weight(model, "b1"), 0
    )


def _weight(model: ir.Model, name: str) -> NDArray[np.float64]:
    return np.asarray(ir.constant_array(model.graph.initializers[name]), float)


def test_importance_is_the_mean_square_of_what_each_channel_adds() -> None:
    model = fused(PERCEPTRON)
    ctx = replace(context(model), gradients=of_first_output)
    assert ctx.calibration is not None
    added = _hidden(model, ctx.calibration) * _weight(model, "w2")[:, 0]
    squares = (added**2).sum(axis=0)
    (group,) = [g for g in prune_groups(model) if g.reason is None]
    found = by_taylor(model, [group], ctx)[group.name]
    np.testing.assert_array_equal(found.order, np.argsort(squares, kind="stable"))
    np.testing.assert_allclose(
        found.errors, np.cumsum(np.sort(squares))[:-1] / squares.sum(), rtol=1e-5
    )


def test_the_channels_that_the_output_needs_stay() -> None:
    model = fused(PERCEPTRON)
    w2 = _weight(model, "w2").astype(np.float32)
    w2[[1, 4], 0] = 50.0
    model.graph.initializers["w2"].const_value = ir.tensor(w2, name="w2")
    before = _weight(model, "w1")
    ctx = replace(context(model), gradients=of_first_output)
    pruning = PruneChannels(ratio=0.75, importance=Importance.TAYLOR, compensate=False, round_to=1)
    pruning.run(model, ctx)
    np.testing.assert_array_equal(_weight(model, "w1"), before[:, [1, 4]])


def test_without_gradients_the_remedy_is_named() -> None:
    model = fused(PERCEPTRON)
    with pytest.raises(PassError, match=r"install gcompile\[train\]"):
        PruneChannels(importance=Importance.TAYLOR).run(model, context(model))
