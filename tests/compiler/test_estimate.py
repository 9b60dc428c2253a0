"""Predicting what a model costs, without building it."""

from __future__ import annotations

import math

import pytest

import gcompile
from gcompile import ir
from gcompile.errors import UsageError
from tests.compiler.task import free, task

FREE = """
    g (float[N,16,8,8] x) => (float[N,16,8,8] y) <float[16,16,3,3] w>
    { y = Conv<pads = [1,1,1,1]>(x, w) }"""


def test_it_is_what_compiling_reports() -> None:
    given = task()
    report = gcompile.compile(given.model).report
    estimate = gcompile.estimate(given.model)
    assert estimate.total.energy_j == pytest.approx(report.energy.exact.energy_j)
    assert set(estimate.per_region) == {layer.name for layer in report.layers}


def test_a_narrow_precision_costs_less() -> None:
    costs = [
        gcompile.estimate(task().model, precision=name).total.energy_j
        for name in ("int8", "bf16", "fp32", None)
    ]
    assert costs == sorted(costs)
    assert costs[2] == costs[3]


def test_a_larger_batch_costs_more_and_a_sample_less() -> None:
    one, four = (gcompile.estimate(free(FREE), batch=batch).total.energy_j for batch in (1, 4))
    assert one < four < 4 * one * 1.0001


def test_a_device_need_not_be_here() -> None:
    total = gcompile.estimate(task().model, "nvidia-h100-sxm").total
    assert math.isfinite(total.energy_j)
    assert total.energy_j > 0


def test_the_model_of_the_caller_stays_as_it_is() -> None:
    model = task().model
    before = ir.to_text(model)
    gcompile.estimate(model, precision="int8")
    assert ir.to_text(model) == before


@pytest.mark.parametrize(
    ("options", "part"),
    [({"precision": "int3"}, "Known precisions"), ({"batch": 0}, "holds no sample")],
)
def test_a_wrong_option_is_refused_in_a_sentence(options: dict[str, object], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        gcompile.estimate(task().model, **options)  # type: ignore[arg-type]


def test_formats_are_priced_where_the_target_has_them() -> None:
    model = free(FREE)
    sixteen, eight, six, four = (
        gcompile.estimate(model, "nvidia-b200", batch=512, precision=p).total.energy_j
        for p in ("bf16", "mxfp8", "mxfp6", "mxfp4")
    )
    assert sixteen > eight > six > four
    with pytest.raises(UsageError, match="not compute in mxfp4"):
        gcompile.estimate(model, "nvidia-h100-sxm", precision="mxfp4")
    with pytest.raises(UsageError, match="It computes in: fp32, bf16, fp16, int8"):
        gcompile.estimate(model, "generic-x86-avx2", precision="fp8")
