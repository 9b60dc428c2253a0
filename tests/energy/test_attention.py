"""Attention as one kernel is priced by the blocks that the kernel for its unit computes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gcompile.energy.attention import AttentionBlocks
from gcompile.energy.job import AttentionWork, Job
from gcompile.energy.kernel import kernel_cost
from gcompile.energy.tiling import choose_tile
from gcompile.ir import Precision, Tile
from gcompile.targets import Target, load_target

_XEON = load_target("intel-xeon-8490h")
_WITHOUT_TILES = replace(_XEON, units=tuple(u for u in _XEON.units if u.kind != "matrix"))


def _job(work: AttentionWork) -> Job:
    size_bytes = 2 * work.heads * work.queries * work.depth
    scores = work.heads * work.queries * work.keys
    return Job(
        Precision.BF16, None, 4 * scores * work.depth, 20 * scores, 0, (size_bytes,) * 4, 0,
        attention=work,
    )  # fmt: skip


def _time_s(job: Job, target: Target) -> float:
    tile = choose_tile(job, target, 1, 0)
    return kernel_cost(job, tile, target, 0).time_s


@pytest.mark.parametrize("tokens", [64, 512, 2048])
def test_tiles_are_priced_as_what_they_multiply_with(tokens: int) -> None:
    job = _job(AttentionWork(12, 12, tokens, tokens, 64, False))
    assert choose_tile(job, _XEON, 1, 0).unit == "amx-bf16"
    assert _time_s(job, _XEON) < _time_s(job, _WITHOUT_TILES)


def test_tiles_read_vectors_in_whole_tiles() -> None:
    unit, tile = _XEON.unit_for(Precision.BF16), Tile("amx-bf16", 2, 2, outer="n")
    found = [
        AttentionBlocks.of(AttentionWork(1, 1, 96, 200, depth, False), tile, unit, _XEON)
        for depth in (40, 64)
    ]
    assert found[0].products[0] == found[1].products[0]
    blocks = found[0]
    assert (blocks.queries % 16, blocks.keys % 32) == (0, 0)
    queries, keys = math.ceil(blocks.queries / 16), math.ceil(blocks.keys / 16)
    issued = queries * keys * 2 * 2 * 16 * 16 * 32  # Two steps of depth, 32 numbers each.
    assert blocks.products[0].issued_ops == issued


def test_rounded_weights_have_all_keys_in_one_block() -> None:
    target = load_target("amd-epyc-9654")
    unit, tile = target.unit_for(Precision.INT8), Tile("avx512-vnni", 8, 2, outer="n")
    for tokens in (100, 2048, 20000):
        work = AttentionWork(1, 1, tokens, tokens, 64, False, rounds_weights=True)
        blocks = AttentionBlocks.of(work, tile, unit, target)
        assert (blocks.keys, blocks.queries % 8) == (math.ceil(tokens / 16) * 16, 0)
        assert blocks.queries == 8 or blocks.queries * blocks.keys * 4 <= 2**17
        assert blocks.pairs == math.ceil(tokens / blocks.queries)


def test_scores_of_rows_that_stay_pass_a_cache_less_often() -> None:
    target = load_target("amd-epyc-9654")
    unit, tile = target.unit_for(Precision.INT8), Tile("avx512-vnni", 8, 2, outer="n")
    floats, rounded = (
        AttentionWork(1, 1, 4096, 4096, 64, False, rounds_weights=rounds)
        for rounds in (False, True)
    )
    blocks = AttentionBlocks.of(rounded, tile, unit, target)
    row_bytes = 4096 * 4
    assert blocks.score_passes(rounded, row_bytes) < blocks.score_passes(floats, row_bytes)
    assert blocks.score_passes(rounded, row_bytes / 2) == blocks.score_passes(floats, row_bytes)
