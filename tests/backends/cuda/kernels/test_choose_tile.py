"""Tiles of products on GPUs: they fit, they fill the chip, and they price as they should."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.choose_tile import choose_tile, priced_tile
from gcompile.backends.cuda.kernels.processor import processor_of
from gcompile.backends.cuda.kernels.tile_cost import TileCost, Work, registers_of, tile_cost
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS, instruction_for
from gcompile.errors import TargetError
from gcompile.ir import Contraction
from gcompile.targets import load_target

_A100 = load_target("nvidia-a100-sxm-80")
_ARCHES = {
    "nvidia-t4": 75,
    "nvidia-a100-sxm-80": 80,
    "nvidia-a10": 86,
    "nvidia-l4": 89,
    "nvidia-h100-sxm": 90,
}


def _work(contraction: Contraction, name: str = "f16", batch: int = 1) -> Work:
    return Work(contraction, batch, INSTRUCTIONS[name], 2.0)


def _matmul(m: int, n: int, k: int, name: str = "f16") -> Work:
    return _work(Contraction.matmul(m, k, n), name)


def _price(work: Work, tile: BlockTile) -> TileCost:
    cost = tile_cost(work, tile, processor_of(80), _A100)
    assert cost is not None
    return cost


def _convolution(size: int, inputs: int, outputs: int, kernel: int, stride: int) -> Contraction:
    pad, out = kernel // 2, size // stride
    return Contraction(
        1, size, size, inputs, out, out, outputs, kernel, kernel, stride, stride, 1, 1,
        pad, pad, pad, pad,
    )  # fmt: skip


def _resnet50() -> Iterator[Contraction]:
    """Its convolutions, each once."""
    yield _convolution(224, 4, 64, 7, 2)
    size, inputs = 56, 64
    for stage, middle in enumerate((64, 128, 256, 512)):
        for block in (0, 1):
            stride = 2 if stage and not block else 1
            yield _convolution(size, inputs, middle, 1, 1)
            yield _convolution(size, middle, middle, 3, stride)
            yield _convolution(size // stride, middle, 4 * middle, 1, 1)
            if not block:
                yield _convolution(size, inputs, 4 * middle, 1, stride)
            size, inputs = size // stride, 4 * middle


@pytest.mark.parametrize("name", ["f16", "s8s8"])
def test_every_convolution_of_resnet50_fills_an_a100_at_batch_one(name: str) -> None:
    for contraction in _resnet50():
        work = _work(contraction, name)
        cost = _price(work, choose_tile(work, _A100, 80))
        assert cost.blocks >= 0.8 * _A100.processors, contraction


@settings(max_examples=20, deadline=None)
@given(
    m=st.integers(1, 5000),
    n=st.integers(1, 5000),
    k=st.integers(1, 5000),
    name=st.sampled_from(("f16", "bf16", "tf32", "s8s8")),
    target=st.sampled_from(sorted(_ARCHES)),
)
def test_tiles_fit_a_multiprocessor(m: int, n: int, k: int, name: str, target: str) -> None:
    arch = _ARCHES[target]
    work = Work(Contraction.matmul(m, k, n), 1, instruction_for(name, arch), 2.0)
    assume(work.instruction.architecture <= arch)
    tile = choose_tile(work, load_target(target), arch)
    assert tile.shared_bytes <= processor_of(arch).block_shared_bytes
    assert registers_of(work, tile) <= 255
    assert tile.split <= math.ceil(k * work.instruction.element_bytes / tile.depth_bytes)


def test_large_products_take_large_tiles_and_reach_most_of_the_peak() -> None:
    work = _matmul(8192, 8192, 8192, "bf16")
    tile = choose_tile(work, _A100, 80)
    assert tile.rows * tile.columns == 128 * 256
    unit = _A100.unit_named("tensor-core-bf16")
    assert unit is not None
    reached = 2 * 8192**3 / _price(work, tile).time_s
    assert 0.9 * unit.efficiency * unit.peak_ops_per_s <= reached <= unit.peak_ops_per_s


def test_a_t4_has_no_asynchronous_copies_and_two_stages_of_64_kib() -> None:
    work = Work(Contraction.matmul(4096, 4096, 4096), 1, instruction_for("f16", 75), 2.0)
    tile = choose_tile(work, load_target("nvidia-t4"), 75)
    assert tile.by_registers
    assert tile.stages == 2
    assert not choose_tile(_matmul(4096, 4096, 4096), _A100, 80).by_registers
    with pytest.raises(TargetError, match="needs sm_80, not sm_75"):
        choose_tile(_matmul(4096, 4096, 4096, "bf16"), load_target("nvidia-t4"), 75)


def test_large_products_of_an_h100_are_multiplied_by_groups_of_warps() -> None:
    h100 = load_target("nvidia-h100-sxm")
    tile = choose_tile(_matmul(8192, 8192, 8192, "bf16"), h100, 90)
    assert tile.by_groups
    assert not choose_tile(_matmul(8192, 8192, 8192, "tf32"), h100, 90).by_groups
    assert not choose_tile(_matmul(8192, 8192, 8192, "bf16"), _A100, 80).by_groups


def test_few_rows_and_a_long_depth_are_split_over_blocks() -> None:
    tile = choose_tile(_matmul(49, 512, 4608), _A100, 80)
    assert tile.split > 1
    assert choose_tile(_matmul(4096, 4096, 4608), _A100, 80).split == 1


def test_smaller_tiles_move_more_bytes_and_so_cost_more_energy() -> None:
    work = _matmul(4096, 4096, 4096)
    small = _price(work, BlockTile(32, 32, 16, 16))
    large = _price(work, BlockTile(128, 128, 64, 64))
    assert small.energy_j > large.energy_j
    assert small.time_s > large.time_s


def test_a_block_of_fewer_warps_than_tensor_cores_leaves_some_idle() -> None:
    work = _matmul(64, 64, 8192)
    one, four = BlockTile(64, 64, 64, 64, 64, 6), BlockTile(64, 64, 32, 32, 64, 6)
    assert _price(work, one).time_s > 1.5 * _price(work, four).time_s


def test_sparse_weights_take_nearly_half_the_energy_of_large_products() -> None:
    dense = _matmul(4096, 4096, 4096, "bf16")
    cost, _ = priced_tile(dense, _A100, 80)
    sparse_cost, tile = priced_tile(replace(dense, is_sparse=True), _A100, 80)
    assert tile.sparse
    assert 0.4 < sparse_cost.energy_j / cost.energy_j < 0.8
    assert 0.4 < sparse_cost.time_s / cost.time_s < 0.8
    work = Work(dense.contraction, 1, instruction_for("f16", 75), 2.0, is_sparse=True)
    with pytest.raises(TargetError, match="no unit for sparse weights"):
        priced_tile(work, load_target("nvidia-t4"), 75)


def test_what_does_not_fit_has_no_price() -> None:
    too_many_registers = BlockTile(256, 256, 128, 64)
    too_much_memory = BlockTile(256, 256, 64, 64, 128, 4)
    for tile in (too_many_registers, too_much_memory):
        assert tile_cost(_matmul(512, 512, 512), tile, processor_of(80), _A100) is None


def test_fp8_needs_an_architecture_that_has_it() -> None:
    with pytest.raises(TargetError, match="needs sm_89, not sm_80"):
        choose_tile(_matmul(64, 64, 64, "e4m3"), _A100, 80)


def test_an_unknown_architecture_is_refused() -> None:
    with pytest.raises(TargetError, match="no multiprocessor of sm_99"):
        choose_tile(_matmul(64, 64, 64), _A100, 99)
