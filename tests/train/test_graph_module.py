"""A graph in PyTorch computes what ONNX Runtime computes, and comes back as it was."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")

from gcompile import ir  # noqa: E402
from gcompile.errors import UsageError  # noqa: E402
from gcompile.train.graph_module import GraphModule  # noqa: E402
from gcompile.train.quantizers import Grid  # noqa: E402
from tests.train.networks import (  # noqa: E402
    context,
    digits,
    labelled_rows,
    outputs,
    quantized_digits,
)

pytestmark = pytest.mark.torch


def test_any_batch_gives_the_scores_of_its_rows() -> None:
    model, rows = digits(context()), labelled_rows()[0][:5]
    (scores,) = GraphModule(model)(torch.from_numpy(rows))
    np.testing.assert_allclose(scores.detach().numpy(), outputs(model, rows), atol=1e-4)


def test_a_quantized_graph_rounds_as_the_runtime_does() -> None:
    model, rows = quantized_digits(context()), labelled_rows()[0][:16]
    assert any(node.op_type == "DequantizeLinear" for node in model.graph)
    (scores,) = GraphModule(model)(torch.from_numpy(rows))
    want = outputs(model, rows)
    # A number at a tie may be rounded the other way, which moves sums by a step.
    np.testing.assert_allclose(scores.detach().numpy(), want, atol=0.02 * np.abs(want).max())


@pytest.mark.parametrize("make", [digits, quantized_digits])
def test_untrained_weights_are_written_back_as_they_were(make: object) -> None:
    assert callable(make)
    model = make(context())
    assert GraphModule(model).write_to(model) == 0


def test_trained_integers_stay_integers_of_the_same_type() -> None:
    model = quantized_digits(context())
    before = {n: ir.constant_array(v) for n, v in model.graph.initializers.items()}
    module = GraphModule(model)
    with torch.no_grad():
        for _, parameter in module.weights():
            parameter.add_(0.1 * parameter.abs().max())
    assert module.write_to(model) > 0
    for name, value in model.graph.initializers.items():
        array, was = ir.constant_array(value), before[name]
        assert array is not None
        assert was is not None
        assert (array.dtype, array.shape) == (was.dtype, was.shape)
    ir.verify(model)


def test_gradients_pass_rounding_inside_the_range_and_stop_outside() -> None:
    grid = Grid(torch.tensor(0.5), torch.tensor(3.0), 0, 7, axis=1)
    x = torch.tensor([-9.0, -1.2, 0.1, 1.9, 9.0], requires_grad=True)
    real = grid.dequantize(grid.quantize(x))
    real.sum().backward()
    np.testing.assert_allclose(real.detach().numpy(), [-1.5, -1.0, 0.0, 2.0, 2.0])
    np.testing.assert_array_equal(x.grad.numpy(), [0, 1, 1, 1, 0])


def test_relaxed_rounding_is_right_on_average() -> None:
    grid = Grid(torch.tensor(1.0), torch.tensor(0.0), -8, 7, axis=1)
    noise = torch.Generator().manual_seed(0)
    drawn = grid.quantize(torch.full((20_000,), 2.3), noise)
    assert set(drawn.tolist()) == {2.0, 3.0}
    assert drawn.mean().item() == pytest.approx(2.3, abs=0.02)


def test_scales_along_an_axis_and_in_blocks_reach_their_elements() -> None:
    scale, zero = torch.tensor([[1.0, 2.0], [4.0, 8.0]]), torch.zeros(2, 2)
    blocks = Grid(scale, zero, -8, 7, axis=1, block=2)
    np.testing.assert_array_equal(
        blocks.dequantize(torch.ones(2, 3)).numpy(), [[1, 1, 2], [4, 4, 8]]
    )
    rows = Grid(torch.tensor([1.0, 2.0]), torch.zeros(2), -8, 7, axis=0)
    np.testing.assert_array_equal(rows.dequantize(torch.ones(2, 2)).numpy(), [[1, 1], [2, 2]])


def test_an_operator_without_a_gradient_is_named() -> None:
    model = ir.parse(
        '<ir_version: 10, opset_import: ["" : 21]> g (float[1,4] x) => (float[1,4] y)'
        " { s = Sign(x) y = Relu(s) }"
    )
    with pytest.raises(UsageError, match="no gradient of Sign"):
        GraphModule(model)
