"""What moves alone gives the same errors as the whole model."""

from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir
from gcompile.passes.precision import (
    QuantizeStatic,
    assign_precisions,
    candidates,
    normalised_error,
    observe_ranges,
    product_regions,
)
from gcompile.passes.precision.run_rows import run_rows
from gcompile.search import downstream
from gcompile.search.downstream import Downstream
from tests.passes.precision.models import ATTENTION, CONV_CHAIN, context, fused

PRECISIONS = (ir.Precision.INT8, ir.Precision.BF16)
TWO_OUTPUTS = """
    g (float[1,8] x) => (float[1,8] y, float[1,4] z)
    <float[8,8] w1, float[8,4] w2, float[8,8] w3> {
        a = MatMul(x, w1)
        r = Relu(a)
        z = MatMul(r, w2)
        y = MatMul(x, w3)
    }"""


@pytest.mark.parametrize("text", [CONV_CHAIN, ATTENTION, TWO_OUTPUTS])
@pytest.mark.parametrize("kept_bytes", [1 << 30, 9000])
def test_errors_are_those_of_the_whole_model(
    text: str, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downstream, "_KEPT_BYTES", kept_bytes)
    model = fused(text)
    ctx = context(model)
    assert ctx.calibration is not None
    assert ctx.run is not None
    histograms = observe_ranges(model, ctx)
    below = Downstream.of(model, ctx.calibration, ctx.run)
    expected = run_rows(model, ctx.calibration, ctx.run)
    rewritten = []
    for region in product_regions(model):
        for precision in candidates(region, PRECISIONS):
            copy = model.clone()
            assign_precisions(copy, {region.name: precision}, ctx, QuantizeStatic(), histograms)
            rewritten.append(copy)
    errors = list(below.errors([below.trial(copy) for copy in rewritten]))
    wanted = [
        normalised_error(expected, run_rows(copy, ctx.calibration, ctx.run)) for copy in rewritten
    ]
    np.testing.assert_allclose(errors, wanted, rtol=0.02, atol=1e-12)
    assert max(errors) > 0


def test_only_what_moves_is_run() -> None:
    model = fused(CONV_CHAIN)
    ctx = context(model)
    assert ctx.calibration is not None
    assert ctx.run is not None
    below = Downstream.of(model, ctx.calibration, ctx.run)
    assert below.trial(model.clone()) is None
    last = product_regions(model)[-1]
    copy = model.clone()
    assign_precisions(copy, {last.name: ir.Precision.INT8}, ctx, QuantizeStatic())
    trial = below.trial(copy)
    assert trial is not None
    assert not any(node.op_type == "Conv" for node in trial.head.graph)
    assert [str(v.name) for v in trial.head.graph.inputs] == list(trial.cut)
    assert trial.front == trial.outputs == ("y",)


def test_a_change_at_the_input_runs_the_rows_themselves() -> None:
    model = fused(CONV_CHAIN)
    ctx = context(model)
    assert ctx.calibration is not None
    assert ctx.run is not None
    below = Downstream.of(model, ctx.calibration, ctx.run)
    copy = model.clone()
    first = product_regions(model)[0]
    assign_precisions(copy, {first.name: ir.Precision.INT8}, ctx, QuantizeStatic())
    trial = below.trial(copy)
    assert trial is not None
    assert list(trial.cut) == ["x"]
    assert list(below.errors([trial])) > [0.0]
