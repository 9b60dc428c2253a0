"""Products on AMX: the kernels' logic on emulated tile registers, their instructions by eye."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import amx, product
from gcompile.backends.tvm.kernels.spec import Image, Output, Panel, ProductKernel
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.compiling import Array, compile_function, run, with_halo
from tests.backends.tvm.kernels.emulation import emulate, load_emulation
from tests.backends.tvm.kernels.examples import few
from tests.backends.tvm.kernels.products import (
    RELU_OF_AFFINE_PLUS_SOURCE,
    bare_product,
    convolution,
    output_image,
    product_kernels,
    random_operands,
    residual,
    rounding_bound,
    sums,
)

SAPPHIRE_RAPIDS = ("sapphirerapids", ("+amx-tile", "+amx-int8", "+amx-bf16"))
UNITS = ("amx-int8", "amx-bf16")
FEW = few(8)


@pytest.fixture(scope="module")
def faults() -> Callable[[], int]:
    """How many rules kernels have broken so far."""
    return load_emulation()


def run_emulated(kernel: ProductKernel, inputs: list[Array]) -> Array:
    return run(product.emit(kernel, "product", emulate), inputs, kernel.output)


def tiles(unit: str) -> st.SearchStrategy[Tile]:
    blocks = st.sampled_from([(2, 2), (4, 1), (1, 4), (1, 1), (3, 1), (1, 2)])
    return st.builds(
        lambda block, *rest: Tile(unit, *block, *rest),
        blocks,
        st.booleans(),
        st.sampled_from(["m", "n"]),
        st.sampled_from(["m", "n"]),
        st.sampled_from([1, 2, 3]),
    )


@pytest.mark.parametrize("unit", UNITS)
@FEW
@given(data=st.data())
def test_tiles_sum_every_product_of_any_shape(
    faults: Callable[[], int], unit: str, data: st.DataObject
) -> None:
    kernel = data.draw(product_kernels(unit, tiles(unit)))
    operands = random_operands(kernel)
    stored = run_emulated(kernel, [operands.stored_x, operands.packed_weights])
    image = kernel.output.image
    expected = sums(kernel, operands.x, operands.weights)
    bound = rounding_bound(kernel, operands) if image.dtype == "float32" else expected * 0
    allowed = with_halo(dataclasses.replace(image, dtype="float32", fill=0.0), bound)
    expected_image = dataclasses.replace(image, dtype="float32")
    difference = stored.astype(np.float64) - with_halo(expected_image, expected)
    assert np.all(np.abs(difference) <= allowed * 1.01)
    assert faults() == 0


@pytest.mark.parametrize(
    ("shape", "flat"),
    [
        ((1, 14, 14, 64), False),
        ((1, 14, 14, 64), True),
        ((1, 9, 17, 24), False),
        ((1, 9, 17, 24), True),
        ((2, 7, 7, 128), False),
    ],
)
def test_whole_blocks_and_their_remainders_are_multiplied_and_written(
    faults: Callable[[], int], shape: tuple[int, int, int, int], flat: bool
) -> None:
    contraction = convolution(shape, 104, (3, 3), pads=(1, 1, 1, 1))
    kernel = dataclasses.replace(
        bare_product(contraction, Tile("amx-int8", 2, 2, flat, threads=2)),
        output=Output(output_image(contraction, "uint8", (1, 1, 1, 1)), 64.0, 10),
        expression=RELU_OF_AFFINE_PLUS_SOURCE,
        sources=(residual(contraction, "uint8"),),
        channel_vectors=2,
    )
    operands = random_operands(kernel)
    rng = np.random.default_rng(1)
    scale = np.full(104, 0.5, np.float32)
    shift = rng.integers(-80, 80, 104).astype(np.float32)
    added = rng.integers(0, 256, (*shape[:3], 104))
    source = with_halo(kernel.sources[0].image, added)
    inputs = [operands.stored_x, operands.packed_weights, scale, shift, source]
    real = sums(kernel, operands.x, operands.weights) * scale + shift + (added - 7) * 0.25
    expected = np.clip(np.rint(np.maximum(real, 0) / 64) + 10, 0, 255)
    np.testing.assert_array_equal(
        run_emulated(kernel, inputs), with_halo(kernel.output.image, expected)
    )
    assert faults() == 0


@pytest.mark.parametrize("unit", UNITS)
@FEW
@given(data=st.data())
def test_panels_of_tiles_change_no_sum(
    faults: Callable[[], int], unit: str, data: st.DataObject
) -> None:
    draw = data.draw
    group = unit_named(unit).group
    size = (1, draw(st.integers(1, 3)), draw(st.integers(1, 40)), group * draw(st.integers(1, 70)))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    contraction = convolution(size, draw(st.integers(1, 130)), stride=stride)
    tile = draw(tiles(unit).filter(lambda tile: stride == (1, 1) or not tile.flat))
    panel = Panel(*(draw(st.integers(1, largest)) for largest in (80, 80, 200)))
    kernel = dataclasses.replace(bare_product(contraction, tile), panel=panel)
    operands = random_operands(kernel)
    stored = run_emulated(kernel, [operands.stored_x, operands.packed_weights])
    expected = sums(kernel, operands.x, operands.weights)
    bound = rounding_bound(kernel, operands) if unit == "amx-bf16" else 0
    assert np.all(np.abs(stored - expected) <= np.multiply(bound, 1.01))
    assert faults() == 0


@pytest.mark.parametrize(
    ("unit", "instruction"), [("amx-int8", "tdpbusd"), ("amx-bf16", "tdpbf16ps")]
)
def test_the_real_instructions_are_in_the_code(unit: str, instruction: str) -> None:
    kernel = bare_product(Contraction.matmul(64, 64, 64), Tile(unit, 2, 2, threads=2))
    compiled = compile_function(product.emit(kernel, "f"), *SAPPHIRE_RAPIDS)
    assembly = compiled.mod.inspect_source("asm")
    for expected in (instruction, "tileloadd", "tilestored", "tilezero", "ldtilecfg"):
        assert expected in assembly


def test_permission_is_one_system_call() -> None:
    function = amx.amx_permission("allow_amx")
    assembly = compile_function(function, *SAPPHIRE_RAPIDS).mod.inspect_source("asm")
    assert "syscall" in assembly


def test_products_amx_cannot_carry_come_with_a_reason() -> None:
    fits = bare_product(convolution((1, 1, 6, 8), 4), Tile("amx-int8", 2, 2))
    assert amx.supports(fits) is None
    too_many = dataclasses.replace(fits, tile=Tile("amx-int8", 3, 2))
    assert "tile registers" in (amx.supports(too_many) or "")
    floats = dataclasses.replace(fits, x=Image(1, 1, 6, 8))
    assert "reads uint8" in (amx.supports(floats) or "")
    odd = dataclasses.replace(fits, x=Image(1, 1, 6, 9, "uint8"))
    assert "multiple of 4 bytes" in (amx.supports(odd) or "")
    with pytest.raises(CompileError, match="tile registers"):
        product.emit(too_many, "f")
