"""Tiles are kept on the regions and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gcompile import ir
from gcompile.energy import Roofline
from gcompile.passes import PassContext
from gcompile.passes.tile.tile_regions import TileRegions
from gcompile.targets import Target, load_target
from gcompile.testing import check_pass
from tests.energy.models import conv, fused, mlp, only_region, with_constants
from tests.targets.test_detect import detect_recorded

_ZEN5 = detect_recorded("zen5-virtual")


def _context(target: Target = _ZEN5, threads: int = 1) -> PassContext:
    return PassContext(target, Roofline(), threads=threads)


@pytest.mark.parametrize(
    ("precision", "unit"),
    [
        ("fp32", "avx512"),
        ("fp16", "avx512-fp16-widened"),
        ("bf16", "avx512-bf16"),
        ("int8", "avx512-vnni"),
    ],
)
def test_a_convolution_gets_a_block_of_its_unit(precision: str, unit: str) -> None:
    model = conv(28, 64, 64, 3, 1, precision)
    record = TileRegions().apply(model, _context())
    tile = only_region(model).tile
    assert record.changed == 1
    assert tile is not None
    assert tile.unit == unit
    assert tile.rows * tile.columns >= 14


def test_a_second_run_changes_nothing() -> None:
    model, context = mlp(64, 128, 10), _context(threads=2)
    assert TileRegions().apply(model, context).changed == 2
    assert TileRegions().apply(model, context).changed == 0


def test_the_price_does_not_change_since_it_already_assumed_the_tile() -> None:
    record = TileRegions().apply(conv(28, 64, 64, 3), _context())
    assert record.after.total.energy_j == pytest.approx(record.before.total.energy_j, rel=0.01)


def test_outputs_are_the_same_bit_for_bit() -> None:
    check_pass(TileRegions(), mlp(16, 32, 10))


def test_elementwise_regions_get_their_threads() -> None:
    model = fused("g (float[4000,1000] x) => (float[4000,1000] y) { y = Relu(x) }")
    TileRegions().apply(model, _context(threads=2))
    assert only_region(model).tile == ir.Tile("avx512", 1, 1, threads=2)


def test_views_keep_no_tile() -> None:
    model = with_constants("g (float[2,8] x) => (float[16] y) { y = Flatten<axis=0>(x) }")
    record = TileRegions().apply(model, _context())
    assert record.changed == 0
    assert record.skipped == {"it only renames memory": 1}


def test_a_precision_the_target_does_not_multiply_is_left_alone() -> None:
    plain = replace(_ZEN5, units=(_ZEN5.unit_for(ir.Precision.FP32),))
    record = TileRegions().apply(conv(14, 16, 16, 3, 1, "fp16"), _context(plain))
    assert record.skipped == {"no unit of the target multiplies fp16": 1}


def test_a_gpu_gets_no_tiles() -> None:
    context = _context(load_target("nvidia-a100-sxm-80"))
    record = TileRegions().apply(conv(14, 16, 16, 3), context)
    assert record.changed == 0
    assert "chosen when those are written" in next(iter(record.skipped))
