from __future__ import annotations

import numpy as np
import pytest

import gcompile
from gcompile.errors import UsageError
from tests.compiler.task import task

torch = pytest.importorskip("torch", reason="PyTorch is not installed: make check-torch")
pytest.importorskip("onnxscript", reason="onnxscript is not installed: make check-torch")
nn = torch.nn

pytestmark = pytest.mark.torch


def network() -> object:
    torch.manual_seed(0)
    made = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
    return made.append(nn.Linear(8 * 4 * 4, 5)).train()


def test_a_module_becomes_an_artefact_that_agrees_with_it() -> None:
    module, x = network(), torch.randn(1, 3, 6, 6)
    built = gcompile.compile(module, example_inputs=(x,))  # type: ignore[arg-type]
    with torch.no_grad():
        wanted = module.eval()(x).numpy()  # type: ignore[attr-defined]
    found = built.artifact.run({"input": x.numpy()})["output"]
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    assert built.report.model == "Sequential"


def test_a_dimension_left_free_is_bound_by_shapes() -> None:
    built = gcompile.compile(
        network(),  # type: ignore[arg-type]
        example_inputs=(torch.randn(2, 3, 6, 6),),
        dynamic_shapes={"input": {0: "batch"}},
        shapes={"input": (3, 3, 6, 6)},
    )
    assert built.artifact.run({"input": np.zeros((3, 3, 6, 6), np.float32)})["output"].shape == (
        3,
        5,
    )


def test_an_estimate_says_where_in_the_module_each_layer_is() -> None:
    found = gcompile.estimate(network(), example_inputs=(torch.randn(1, 3, 6, 6),))  # type: ignore[arg-type]
    assert {place.module for place in found.places.values()} >= {"0", "4"}
    assert set(found.places) <= set(found.per_region)


def test_inputs_in_the_place_of_a_target_are_refused_with_the_remedy() -> None:
    with pytest.raises(UsageError, match="example_inputs="):
        gcompile.compile(network(), (torch.randn(1, 3, 6, 6),))  # type: ignore[arg-type]


def test_example_inputs_are_for_modules_only() -> None:
    with pytest.raises(UsageError, match="are for PyTorch modules"):
        gcompile.compile(task().model, example_inputs=(torch.zeros(1),))
