from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import UsageError
from gcompile.passes.pipelines import fuse_pipeline
from gcompile.passes.precision import (
    QuantizeStatic,
    assign_precisions,
    candidates,
    observe_ranges,
    product_regions,
    why_not,
)
from tests.passes.precision.models import (
    ATTENTION,
    CONV_CHAIN,
    context,
    fused,
    rows_for,
    signal_to_noise_db,
)

ALL = (ir.Precision.FP32, ir.Precision.BF16, ir.Precision.INT8)
FAST = QuantizeStatic(bias_correction=False)


@pytest.mark.parametrize("wanted", list(itertools.product(ALL, repeat=3)))
def test_every_mix_of_precisions_is_what_was_chosen(wanted: tuple[ir.Precision, ...]) -> None:
    model = fused(CONV_CHAIN)
    ctx = context(model)
    regions = [
        r for r in product_regions(model) if not (r.contraction and r.contraction.groups > 1)
    ]
    choice = {region.name: p for region, p in zip(regions, wanted, strict=True)}
    mixed = model.clone()
    changed = assign_precisions(mixed, choice, ctx, FAST)
    assert changed == sum(p is not ir.Precision.FP32 for p in wanted)
    ir.verify(mixed)
    testing.check_regions(mixed)
    fuse_pipeline().apply(mixed, ctx)
    testing.check_regions(mixed)
    found = {r.name: r.precision for r in ir.regions(mixed.graph)}
    assert {name: found[name] for name in choice} == choice
    rows = rows_for(model, 16, seed=5)
    want, got = OnnxRuntime()(model, rows)["y"], OnnxRuntime()(mixed, rows)["y"]
    assert signal_to_noise_db(want, got) > 20


def test_ranges_observed_once_give_the_same_model() -> None:
    model = fused(CONV_CHAIN)
    ctx = context(model)
    choice = {region.name: ir.Precision.INT8 for region in product_regions(model)}
    protos = []
    for histograms in (None, observe_ranges(model, ctx)):
        copy = model.clone()
        assign_precisions(copy, choice, ctx, FAST, histograms)
        protos.append(ir.to_proto(copy).SerializeToString(deterministic=True))
    assert protos[0] == protos[1]


def test_a_region_that_cannot_have_its_precision_keeps_its_own_and_says_why() -> None:
    model = fused(CONV_CHAIN)
    ctx = replace(context(model), calibration=None)
    depthwise = [r for r in product_regions(model) if r.contraction and r.contraction.groups > 1]
    assert assign_precisions(model, {depthwise[0].name: ir.Precision.BF16}, ctx) == 0
    assert dict(ctx.skipped) == {
        (
            "convert-bfloat16",
            "it is a depthwise convolution, which vector units compute in fp32",
        ): 1
    }


def test_a_choice_for_an_unknown_region_is_refused_by_name() -> None:
    model = fused(CONV_CHAIN)
    with pytest.raises(UsageError, match="regions the model does not have: nowhere"):
        assign_precisions(model, {"nowhere": ir.Precision.INT8}, context(model))


def test_fp32_is_a_candidate_everywhere_and_others_where_they_can() -> None:
    model = fused(CONV_CHAIN)
    found = {r.op: candidates(r, (ir.Precision.INT8, ir.Precision.BF16)) for r in
             product_regions(model) if r.op in ("MatMul",)}  # fmt: skip
    assert found == {"MatMul": (ir.Precision.FP32, ir.Precision.INT8, ir.Precision.BF16)}
    assert all(why_not(region, ir.Precision.FP32) is None for region in product_regions(model))


def test_a_sum_deeper_than_32_bits_can_hold_stays_in_float() -> None:
    text = "g (float[1,70000] x) => (float[1,1] y) <float[70000,1] w> { y = MatMul(x, w) }"
    region = product_regions(fused(text))[0]
    assert why_not(region, ir.Precision.INT8) == (
        "its 70000 products per output can overflow a 32-bit sum"
    )
    assert why_not(region, ir.Precision.BF16) is None


@pytest.mark.parametrize("precision", [ir.Precision.INT8, ir.Precision.BF16])
def test_attention_converts_all_its_products(
    precision: ir.Precision,
) -> None:
    model = fused(ATTENTION)
    ctx = context(model)
    weighted = [r for r in product_regions(model) if why_not(r, precision) is None]
    narrow = model.clone()
    assert assign_precisions(narrow, {r.name: precision for r in weighted}, ctx) == 6
    fuse_pipeline().apply(narrow, ctx)
    testing.check_regions(narrow)
    found = {r.op.split("+")[0]: r.precision for r in ir.regions(narrow.graph)}
    assert found["LayerNormalization"] is found["Softmax"] is ir.Precision.FP32
    rows = rows_for(model, 16, seed=5)
    want, got = OnnxRuntime()(model, rows)["y"], OnnxRuntime()(narrow, rows)["y"]
    assert signal_to_noise_db(want, got) > 30
