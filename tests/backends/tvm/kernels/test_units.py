"""What units say about registers, and the order weights are packed in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gcompile.backends.tvm.kernels.packing import pack_weights, weight_dtype, weight_shape
from gcompile.backends.tvm.kernels.units import UNITS, unit_named
from gcompile.energy.tiling import shapes
from gcompile.errors import UnknownNameError
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile
from gcompile.targets import list_targets, load_target
from tests.backends.tvm.kernels.products import bare_product, convolution


def test_the_largest_blocks_fill_the_registers() -> None:
    assert (
        unit_named("avx512").registers_needed(7, 3) <= 32 < UNITS["avx512"].registers_needed(8, 4)
    )
    assert unit_named("avx2").registers_needed(4, 3) == 16
    assert unit_named("amx-int8").registers_needed(2, 2) <= 8
    assert unit_named("amx-int8").registers_needed(4, 1) <= 8
    assert unit_named("amx-int8").registers_needed(3, 2) > 8


@pytest.mark.parametrize("device", list_targets())
def test_blocks_that_are_chosen_for_a_cpu_fit_the_registers_of_its_kernels(device: str) -> None:
    target = load_target(device)
    for unit in target.units if target.kind == "cpu" else ():
        for tile in shapes(Contraction.matmul(64, 64, 64), unit):
            needed = unit_named(unit.name).registers_needed(tile.rows, tile.columns)
            assert needed <= unit_named(unit.name).registers


def test_widening_needs_twice_the_operands() -> None:
    assert UNITS["avx2-bf16"].registers_needed(2, 2) == 4 + 2 * 3


def test_an_unknown_unit_is_named_with_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="generic"):
        unit_named("abacus")


@pytest.mark.parametrize("name", UNITS)
def test_packed_weights_have_the_announced_shape_and_type(name: str) -> None:
    contraction = convolution((1, 3, 4, 5), 18, (2, 3), pads=(0, 1, 1, 1))
    kernel = bare_product(contraction, Tile(name, 2, 2))
    dtype = {"float32": np.float32, "uint16": np.uint16}.get(UNITS[name].weight_dtype, np.int8)
    packed = pack_weights(kernel, np.ones((18, 5, 2, 3), dtype))
    assert packed.shape == weight_shape(kernel)
    assert packed.dtype == weight_dtype(kernel)
    steps = contraction.kernel_h * contraction.kernel_w * kernel.x.channels // UNITS[name].group
    assert int(packed[:, :steps].astype(np.int64).sum()) == 18 * 5 * 6


def test_signed_dot_products_start_from_what_lowering_the_pixels_takes() -> None:
    kernel = bare_product(Contraction.matmul(4, 8, 6), Tile("neon-dotprod", 2, 1))
    weights = np.arange(-24, 24, dtype=np.int8).reshape(6, 8, 1, 1)
    last_step = pack_weights(kernel, weights)[:, -1].copy().view(np.int32).ravel()
    lost = 128 * weights.sum(axis=(1, 2, 3), dtype=np.int32)
    np.testing.assert_array_equal(last_step, [*lost, 0, 0])


def test_a_step_of_packed_weights_is_what_one_instruction_reads() -> None:
    kernel = bare_product(Contraction.matmul(4, 8, 16), Tile("avx512-vnni", 2, 1))
    weights = np.arange(16 * 8, dtype=np.int8).reshape(16, 8, 1, 1)
    packed = pack_weights(kernel, weights)
    np.testing.assert_array_equal(packed[0, 1].reshape(16, 4), weights[:, 4:8, 0, 0])


def test_padded_channels_have_no_weight() -> None:
    kernel = bare_product(Contraction.matmul(4, 3, 8), Tile("avx-vnni", 2, 1))
    assert kernel.x.channels == 4
    packed = pack_weights(kernel, np.ones((8, 3, 1, 1), np.int8))
    np.testing.assert_array_equal(packed[0, 0].reshape(8, 4)[:, 3], 0)


def test_amx_reads_the_bytes_of_wide_dot_products() -> None:
    contraction = convolution((1, 3, 4, 8), 18, (2, 3), pads=(0, 1, 1, 1))
    weights = np.random.default_rng(0).integers(-128, 128, (18, 8, 2, 3), dtype=np.int8)
    vector = bare_product(contraction, Tile("avx512-vnni", 2, 2))
    tiled = dataclasses.replace(vector, tile=Tile("amx-int8", 2, 2))
    np.testing.assert_array_equal(pack_weights(vector, weights), pack_weights(tiled, weights))
