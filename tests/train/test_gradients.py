"""Gradients of rows are what differences of losses say."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")

from gcompile import ir, testing  # noqa: E402
from gcompile.compiler.gradients import row_gradients  # noqa: E402
from gcompile.errors import PassError  # noqa: E402
from gcompile.passes.prune.importance import Importance  # noqa: E402
from gcompile.passes.prune.prune_channels import PruneChannels  # noqa: E402
from tests.passes.example_models import HEADER  # noqa: E402
from tests.passes.precision.models import CONV_CHAIN, fused  # noqa: E402
from tests.passes.precision.models import context as random_context  # noqa: E402
from tests.passes.prune.networks import ATTENTION  # noqa: E402
from tests.passes.prune.test_prune_channels import PERCEPTRON, TWO_CONVOLUTIONS  # noqa: E402
from tests.train.networks import context, digits, labelled_rows, outputs  # noqa: E402

pytestmark = pytest.mark.torch

_STEP = 0.02


def test_a_gradient_with_labels_is_the_slope_of_the_cross_entropy() -> None:
    model = digits(context())
    images, labels = labelled_rows()
    given = {"image": images[:6]}
    found = list(row_gradients(model, given, labels[:6], 0))
    assert len(found) == 6
    rng = np.random.default_rng(0)
    for name in found[0]:
        way = rng.normal(size=found[0][name].shape).astype(np.float32)
        way *= _STEP * np.linalg.norm(_array(model, name)) / (np.linalg.norm(way))
        rises = (_losses(model, images[:6], labels[:6], name, way)
                 - _losses(model, images[:6], labels[:6], name, -way)) / 2  # fmt: skip
        slopes = np.array([(row[name] * way).sum() for row in found])
        np.testing.assert_allclose(slopes, rises, atol=0.1 * np.abs(rises).max() + 1e-4)


def _array(model: ir.Model, name: str) -> NDArray[np.float32]:
    return np.asarray(ir.constant_array(model.graph.initializers[name]), np.float32)


def _losses(
    model: ir.Model, rows: NDArray[np.float32], labels: NDArray[np.generic], name: str,
    way: NDArray[np.float32],
) -> NDArray[np.float64]:  # fmt: skip
    moved = model.clone()
    value = moved.graph.initializers[name]
    value.const_value = ir.tensor(_array(model, name) + way, name=name)
    scores = np.asarray(outputs(moved, rows), np.float64)
    logs = np.log(np.exp(scores - scores.max(axis=1, keepdims=True)).sum(axis=1))
    own = scores[np.arange(len(rows)), labels.astype(int)] - scores.max(axis=1)
    return np.asarray(logs - own)


def test_without_labels_it_is_that_of_signed_outputs_and_seeded() -> None:
    model = ir.parse(HEADER + "g (float[1,3] x) => (float[1,2] y) <float[3,2] w = "
                     "{1, 2, 3, 4, 5, 6}> { y = MatMul(x, w) }")  # fmt: skip
    rows = {"x": np.arange(12, dtype=np.float32).reshape(4, 3)}
    found = [row["w"] for row in row_gradients(model, rows, None, 3)]
    for x, slope in zip(rows["x"], found, strict=True):
        np.testing.assert_array_equal(np.abs(slope), np.stack([x, x], axis=1))
    again = [row["w"] for row in row_gradients(model, rows, None, 3)]
    np.testing.assert_array_equal(found, again)


def test_probabilities_at_the_end_are_not_made_probabilities_again() -> None:
    text = "g (float[1,2] x) => (float[1,2] y) <float[2,2] w = {1, 0, 0, 1}> { s = MatMul(x, w) "
    scores = ir.parse(HEADER + text + "y = Identity(s) }")
    softmax = ir.parse(HEADER + text + "y = Softmax(s) }")
    rows, labels = {"x": np.array([[0.3, -1.0]], np.float32)}, np.array([1])
    (one,) = row_gradients(scores, rows, labels, 0)
    (other,) = row_gradients(softmax, rows, labels, 0)
    np.testing.assert_allclose(one["w"], other["w"], rtol=1e-5)


def test_a_node_without_a_gradient_is_named_with_the_remedy() -> None:
    model = ir.parse(HEADER + "g (float[1,3] x) => (float[1,3] y) { y = Erf(x) }")
    model.graph.node(0).op_type = "Det"
    with pytest.raises(PassError, match=r"gradient of Det.*importance=reconstruction"):
        list(row_gradients(model, {"x": np.ones((1, 3), np.float32)}, None, 0))


@pytest.mark.parametrize("text", [CONV_CHAIN, TWO_CONVOLUTIONS, PERCEPTRON, ATTENTION])
def test_pruning_by_taylor_keeps_its_contract(text: str) -> None:
    model = fused(text)
    pruning = PruneChannels(ratio=0.5, importance=Importance.TAYLOR, round_to=1)
    ctx = replace(random_context(model, rows=64), gradients=row_gradients)
    record = testing.check_pass(pruning, model, ctx=ctx)
    assert record.changed >= 1


def test_pruning_by_taylor_with_labels_beats_magnitude_on_the_digits() -> None:
    images, labels = labelled_rows()
    right = {}
    for importance in (Importance.TAYLOR, Importance.MAGNITUDE):
        model = digits(context())
        ctx = replace(
            context(), calibration={"image": images[:200]}, labels=labels[:200],
            gradients=row_gradients,
        )  # fmt: skip
        pruning = PruneChannels(ratio=0.2, importance=importance, compensate=False, round_to=1)
        assert pruning.run(model, ctx) > 0
        right[importance] = (outputs(model, images[200:]).argmax(axis=1) == labels[200:]).mean()
    assert right[Importance.TAYLOR] > right[Importance.MAGNITUDE]
