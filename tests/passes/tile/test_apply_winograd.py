from __future__ import annotations

import pytest

import gcompile
from gcompile import ir
from gcompile.energy import Roofline, estimate
from gcompile.passes import PassContext
from gcompile.passes.pipelines import fuse_pipeline
from gcompile.passes.tile.apply_winograd import ApplyWinograd
from gcompile.passes.tile.tile_regions import TileRegions
from gcompile.targets import load_target
from tests.backends.tvm.lowering.compiling import check, parse

TARGET = load_target("intel-xeon-8490h")
LAYER = """g (float[1,64,28,28] x) => (float[1,64,28,28] y) <float[64,64,3,3] w>
{ c = Conv<pads = [1,1,1,1]>(x, w) y = Relu(c) }"""


def tiled(text: str, threads: int = 1) -> tuple[ir.Model, PassContext]:
    model, ctx = parse(text), PassContext(target=TARGET, energy=Roofline(), threads=threads)
    fuse_pipeline().apply(model, ctx)
    TileRegions().apply(model, ctx)
    return model, ctx


@pytest.mark.parametrize("threads", [1, 4])
def test_the_price_of_a_large_layer_falls(threads: int) -> None:
    model, ctx = tiled(LAYER, threads)
    record = ApplyWinograd().apply(model, ctx)
    assert record.changed == 1
    assert record.after.total.energy_j < 0.7 * record.before.total.energy_j
    (region,) = ir.regions(model.graph)
    assert region.tile is not None
    assert region.tile.winograd == 4
    assert record.after.total == estimate(model, TARGET, Roofline(), threads).total


def test_a_second_run_changes_nothing() -> None:
    model, ctx = tiled(LAYER)
    ApplyWinograd().apply(model, ctx)
    assert ApplyWinograd().apply(model, ctx).changed == 0


@pytest.mark.parametrize(
    "conv",
    [
        "<strides = [2,2], pads = [1,1,1,1]>(x, w)",
        "<dilations = [2,2], pads = [2,2,2,2]>(x, w)",
        "<pads = [1,1,1,1], group = 2>(x, v)",
    ],
)
def test_other_windows_keep_their_direct_tiles(conv: str) -> None:
    size = 14 if "strides" in conv else 28
    text = f"""g (float[1,64,28,28] x) => (float[1,64,{size},{size}] y)
    <float[64,64,3,3] w, float[64,32,3,3] v> {{ y = Conv{conv} }}"""
    model, ctx = tiled(text)
    assert ApplyWinograd().apply(model, ctx).changed == 0


@pytest.mark.parametrize("precision", [None, "bf16", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_compiled_layer_agrees(precision: str | None, threads: int) -> None:
    text = """g (float[1,16,22,26] x) => (float[1,24,22,26] y)
    <float[24,16,3,3] w, float[24] b, float[24,24,3,3] v> {
        c = Conv<pads = [1,1,1,1]>(x, w, b) r = Relu(c)
        d = Conv<pads = [1,1,1,1]>(r, v) y = Add(d, r)
    }"""
    assert check(text, precision, threads=threads).reasons == []


def test_pairs_of_bfloat16_are_multiplied_where_the_processor_can() -> None:
    built = gcompile.compile(parse(LAYER), "amd-epyc-9654", precision="bf16", threads=1)
    tiles = [region.tile for region in ir.regions(built.model.graph) if region.tile is not None]
    assert [(tile.winograd, tile.unit) for tile in tiles if tile.winograd] == [(2, "avx512-bf16")]


@pytest.mark.parametrize("precision", [ir.Precision.FP32, ir.Precision.INT8])
def test_a_price_can_be_that_of_the_algorithm_to_come(precision: ir.Precision) -> None:
    supposed = Roofline().at(precision)
    direct, quick = (
        estimate(parse(LAYER), TARGET, energy).total.energy_j
        for energy in (supposed, supposed.filtered())
    )
    if precision is ir.Precision.INT8:
        assert quick == direct
    else:
        model, ctx = tiled(LAYER)
        assert quick < 0.7 * direct
        assert quick < 1.1 * ApplyWinograd().apply(model, ctx).after.total.energy_j
