"""Register blocks: counts and cycles worked out by hand."""

from __future__ import annotations

import pytest

from gcompile.energy.blocking import accumulator_sets, blocking, flat_pixels, row_count, step_count
from gcompile.ir import Contraction, Precision, Tile
from gcompile.targets import Target, Unit, load_target

_SERVER = load_target("intel-xeon-8490h")
_IMAGE = Contraction(1, 7, 7, 64, 7, 7, 64, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1)


def _unit(name: str) -> Unit:
    unit = _SERVER.unit_named(name)
    assert unit is not None
    return unit


def _cycles(contraction: Contraction, tile: Tile, target: Target = _SERVER) -> float:
    return blocking(contraction, tile, _unit(tile.unit), target).cycles


def test_a_full_block_runs_at_two_products_per_cycle() -> None:
    product = Contraction.matmul(64, 1000, 48)
    blocks = blocking(product, Tile("avx512", 8, 3), _unit("avx512"), _SERVER)
    assert blocks.row_blocks * blocks.column_blocks == 8
    ideal = product.macs / (2 * 16)
    assert ideal < blocks.cycles < 1.06 * ideal
    assert blocks.issued_ops == 2 * product.macs


def test_a_narrow_product_pays_for_the_whole_vector() -> None:
    blocks = blocking(
        Contraction.matmul(8, 64, 10), Tile("avx512", 8, 1), _unit("avx512"), _SERVER
    )
    assert blocks.issued_ops == 2 * 8 * 64 * 16


def test_sets_of_sums_hide_the_latency_of_a_small_block_but_not_its_loads() -> None:
    product = Contraction.matmul(1, 1000, 16)
    assert 1000 <= _cycles(product, Tile("avx512", 1, 1)) < 2 * 1000
    assert [accumulator_sets(sums, 30) for sums in (1, 2, 3, 4, 8)] == [8, 4, 4, 2, 1]
    assert [accumulator_sets(sums, 8) for sums in (3, 4, 7)] == [2, 2, 1]


def test_a_short_line_moves_its_last_block_back_instead_of_cutting_it() -> None:
    line = Contraction.matmul(10, 8, 16)
    blocks = blocking(line, Tile("avx512", 8, 1), _unit("avx512"), _SERVER)
    assert blocks.row_blocks == 2
    assert blocks.issued_ops == 2 * 16 * 8 * 16


def test_flat_blocks_cross_the_ends_of_rows() -> None:
    assert flat_pixels(_IMAGE) == 6 * 9 + 7
    assert row_count(_IMAGE, Tile("avx512", 7, 1), _unit("avx512")) == 7
    assert row_count(_IMAGE, Tile("avx512", 10, 1, flat=True), _unit("avx512")) == 7


def test_tile_registers_take_sixteen_rows_or_a_divisor_of_the_line() -> None:
    unit = _unit("amx-int8")
    assert row_count(_IMAGE, Tile("amx-int8", 2, 2), unit) == 7
    assert row_count(_IMAGE, Tile("amx-int8", 2, 2, flat=True), unit) == 4


def test_int8_reads_depth_in_groups_of_four() -> None:
    stem = Contraction(1, 8, 8, 3, 8, 8, 16, 3, 3)
    assert step_count(stem, _unit("avx512")) == 27
    assert step_count(stem, _unit("avx512-vnni")) == 9
    # AMX: a run of three pixels of four bytes is one tile of twelve.
    assert step_count(stem, _unit("amx-int8")) == 3


def test_a_tile_product_takes_sixteen_cycles() -> None:
    product = Contraction.matmul(32, 640, 32)
    steps = 640 // 64
    cycles = _cycles(product, Tile("amx-int8", 2, 2))
    assert cycles == pytest.approx(4 * 16 * steps, rel=0.15)


def test_the_busiest_thread_sets_the_time() -> None:
    product = Contraction.matmul(24, 64, 16)
    unit = _unit("avx512")
    tile = Tile("avx512", 8, 1, threads=2)
    assert blocking(product, tile, unit, _SERVER).busy_share == pytest.approx(2 / 3)


def test_unit_precisions_are_what_their_names_say() -> None:
    assert _unit("amx-bf16").precision is Precision.BF16
