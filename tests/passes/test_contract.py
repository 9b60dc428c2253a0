"""The contract every pass keeps, on every example model."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.ir.place import set_place
from gcompile.passes import Numerics, Pass, PassContext, exact_pipeline, known_passes
from tests.passes.example_models import HEADER, TEXTS

PASSES = known_passes()


def build(name: str) -> ir.Model:
    return ir.parse(HEADER + TEXTS[name])


def calibrated(model: ir.Model) -> PassContext:
    """Eight rows per input, for passes that must see values."""
    rows = {
        name: np.concatenate([testing.example_inputs(model, seed)[name] for seed in range(8)])
        for name, array in testing.example_inputs(model).items()
        if array.ndim
    }
    return testing.example_context(calibration=rows)


def one_row_models() -> list[str]:
    """Models that calibration rows fit: every input has a leading dimension of one."""
    return [name for name in TEXTS if all(_has_one_row(v) for v in build(name).graph.inputs)]


def _has_one_row(value: ir.Value) -> bool:
    return ir.static_shape(value)[:1] == (1,)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("kind", [k for k in PASSES.values() if k.numerics is not Numerics.LOSSY])
def test_pass_keeps_its_contract(kind: type[Pass], name: str) -> None:
    model = build(name)
    testing.check_pass(kind(), model, ctx=calibrated(model))


@pytest.mark.parametrize("name", one_row_models())
@pytest.mark.parametrize("kind", [k for k in PASSES.values() if k.numerics is Numerics.LOSSY])
def test_lossy_pass_keeps_its_contract_after_the_exact_ones(kind: type[Pass], name: str) -> None:
    model = build(name)
    ctx = calibrated(model)
    exact_pipeline().apply(model, ctx)
    testing.check_pass(kind(), model, ctx=ctx)


@pytest.mark.parametrize("name", TEXTS)
def test_exact_pipeline_is_stable_and_leaves_regions_that_can_run(name: str) -> None:
    model = build(name)
    inputs, ctx = testing.example_inputs(model), testing.example_context()
    expected, tolerance = testing.run(model, inputs), testing.rounding_tolerance(model)
    exact_pipeline().apply(model, ctx)
    testing.check_regions(model)
    testing.assert_close(expected, testing.run(model, inputs), tolerance)
    assert exact_pipeline().apply(model, ctx).changed == 0


@pytest.mark.parametrize("name", one_row_models())
def test_every_node_still_says_where_in_a_pytorch_module_it_comes_from(name: str) -> None:
    model, ctx = build(name), calibrated(build(name))
    for node in ir.all_nodes(model):
        set_place(node, "somewhere")
    exact_pipeline().apply(model, ctx)
    lossy = [kind() for kind in PASSES.values() if kind.numerics is Numerics.LOSSY]
    for rewritten in (model, *(_after(pass_, model.clone(), ctx) for pass_ in lossy)):
        lost = [node.name for node in ir.all_nodes(rewritten) if ir.place_of([node]) is None]
        assert not lost


def _after(pass_: Pass, model: ir.Model, ctx: PassContext) -> ir.Model:
    pass_.run(model, ctx)
    return model


@pytest.mark.parametrize(
    ("name", "energy"),
    [("residual", "lower"), ("silu", "lower"), ("int8_form", "lower"), ("recurrent", "equal")],
)
def test_exact_pipeline_lowers_the_estimate(name: str, energy: str) -> None:
    record = exact_pipeline().apply(build(name), testing.example_context())
    before, after = record.before.total.energy_j, record.after.total.energy_j
    compare: dict[str, Callable[[float, float], bool]] = {
        "lower": lambda a, b: a < b,
        "equal": lambda a, b: a == b,
    }
    assert compare[energy](after, before)


def test_every_pass_is_called_after_its_file() -> None:
    for name, kind in PASSES.items():
        assert name == kind.__module__.rpartition(".")[2].replace("_", "-")
        assert kind.__name__ == "".join(part.capitalize() for part in name.split("-"))
        assert kind.__doc__
