"""Products on vector units, against exact integers or float64."""

from __future__ import annotations

import dataclasses

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import product
from gcompile.backends.tvm.kernels.packing import panel_of, steps_ahead
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Output,
    Panel,
    PerChannel,
    ProductKernel,
    Source,
    Unary,
)
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.errors import CompileError, UnknownNameError
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.compiling import Array, compile_function, inside, run, with_halo
from tests.backends.tvm.kernels.examples import few
from tests.backends.tvm.kernels.machine import VECTOR_UNITS, machine_for, skip_unless_runnable
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

FEW = few()


def tiles(unit: str) -> st.SearchStrategy[Tile]:
    return st.builds(
        Tile,
        unit=st.just(unit),
        rows=st.integers(1, 6),
        columns=st.integers(1, 3),
        flat=st.booleans(),
        outer=st.sampled_from(["m", "n"]),
        split=st.sampled_from(["m", "n"]),
        threads=st.sampled_from([1, 1, 2, 3]),
    )


@pytest.mark.parametrize("unit", VECTOR_UNITS)
@FEW
@given(data=st.data())
def test_a_unit_sums_every_product_of_any_shape(unit: str, data: st.DataObject) -> None:
    skip_unless_runnable(unit)
    kernel = data.draw(product_kernels(unit, tiles(unit)))
    operands = random_operands(kernel)
    stored = run_product(kernel, [operands.stored_x, operands.packed_weights])
    expected = sums(kernel, operands.x, operands.weights)
    bound = rounding_bound(kernel, operands) if kernel.output.image.dtype == "float32" else 0
    assert np.all(np.abs(inside(kernel.output.image, stored) - expected) <= bound)
    np.testing.assert_array_equal(
        without_inside(kernel.output.image, stored),
        without_inside(kernel.output.image, with_halo(kernel.output.image, expected)),
    )


@pytest.mark.parametrize("unit", ["avx512-vnni", "avx-vnni", "avx2-int8"])
def test_an_integer_product_is_rescaled_added_and_rounded_exactly(unit: str) -> None:
    skip_unless_runnable(unit)
    contraction = convolution((1, 5, 6, 8), 20, (3, 3), pads=(1, 1, 1, 1))
    kernel = dataclasses.replace(
        bare_product(contraction, Tile(unit, 3, 2)),
        output=Output(output_image(contraction, "uint8", (1, 1, 1, 1)), zero_point=10),
        expression=RELU_OF_AFFINE_PLUS_SOURCE,
        sources=(residual(contraction, "uint8"),),
        channel_vectors=2,
    )
    operands = random_operands(kernel)
    rng = np.random.default_rng(1)
    # Powers of two and short fractions: float32 holds every intermediate value exactly.
    scale = np.exp2(rng.integers(-10, -7, 20)).astype(np.float32)
    shift = (rng.integers(-80, 80, 20) / 8).astype(np.float32)
    added = rng.integers(0, 256, (1, 5, 6, 20))
    source = with_halo(kernel.sources[0].image, added)
    stored = run_product(
        kernel, [operands.stored_x, operands.packed_weights, scale, shift, source]
    )
    real = sums(kernel, operands.x, operands.weights) * scale + shift + (added - 7) * 0.25
    expected = np.clip(np.rint(np.maximum(real, 0)) + 10, 0, 255)
    np.testing.assert_array_equal(stored, with_halo(kernel.output.image, expected))


@pytest.mark.parametrize(("dtype", "step"), [("bfloat16", 2.0**-8), ("float16", 2.0**-11)])
def test_a_float_product_is_stored_in_half_the_bits(dtype: str, step: float) -> None:
    contraction = convolution((2, 4, 5, 6), 17, (3, 3), (2, 1), pads=(1, 0, 2, 1))
    kernel = dataclasses.replace(
        bare_product(contraction, Tile("generic", 3, 2, threads=2)),
        output=Output(output_image(contraction, dtype, (0, 1, 0, 2))),
        expression=RELU_OF_AFFINE_PLUS_SOURCE,
        sources=(residual(contraction, "float32"),),
        channel_vectors=2,
    )
    operands = random_operands(kernel)
    rng = np.random.default_rng(1)
    vectors = rng.standard_normal((2, 17)).astype(np.float32)
    added = rng.standard_normal((2, contraction.out_h, contraction.out_w, 17)).astype(np.float32)
    source = with_halo(kernel.sources[0].image, added)
    stored = run_product(kernel, [operands.stored_x, operands.packed_weights, *vectors, source])
    real = sums(kernel, operands.x, operands.weights) * vectors[0] + vectors[1] + added
    expected = np.maximum(real, 0)
    written = inside(kernel.output.image, stored).astype(np.float64)
    np.testing.assert_allclose(written, expected, rtol=step, atol=1e-4)
    border = 5.0 if dtype == "float16" else int(ml_dtypes.bfloat16(5).view(np.uint16))
    assert np.all(without_inside(kernel.output.image, stored) == border)


def test_a_long_expression_is_emitted_once_and_means_the_same() -> None:
    contraction = convolution((1, 4, 6, 4), 21, (2, 2))
    expression = Accumulator()
    kernel = bare_product(contraction, Tile("generic", 4, 3, flat=True))
    value: Unary | Binary | Accumulator = expression
    for _ in range(6):
        value = Binary("mul", Unary("tanh", value), PerChannel(0))
    kernel = dataclasses.replace(kernel, expression=value, channel_vectors=1)
    operands = random_operands(kernel)
    factor = np.linspace(0.5, 1.5, 21).astype(np.float32)
    stored = run_product(kernel, [operands.stored_x, operands.packed_weights, factor])
    expected = sums(kernel, operands.x, operands.weights)
    for _ in range(6):
        expected = np.tanh(expected) * factor
    np.testing.assert_allclose(stored, expected, rtol=1e-4, atol=1e-5)
    assembly = compile_function(product.emit(kernel, "f")).mod.inspect_source("asm")
    assert len(assembly.splitlines()) < 12_000


def test_a_broadcast_source_is_added_to_every_pixel() -> None:
    contraction = Contraction.matmul(9, 12, 10)
    row = Source(Image(1, 1, 1, 10))
    kernel = dataclasses.replace(
        bare_product(contraction, Tile("generic", 4, 2)),
        expression=RELU_OF_AFFINE_PLUS_SOURCE,
        sources=(row,),
        channel_vectors=2,
    )
    operands = random_operands(kernel)
    added = np.arange(10, dtype=np.float32)
    ones, zeros = np.ones(10, np.float32), np.zeros(10, np.float32)
    inputs = [operands.stored_x, operands.packed_weights, ones, zeros, added.reshape(1, 1, 1, 10)]
    expected = np.maximum(sums(kernel, operands.x, operands.weights) + added, 0)
    np.testing.assert_allclose(run_product(kernel, inputs), expected, rtol=1e-5, atol=1e-5)


def test_a_matrix_keeps_the_shape_it_was_declared_with() -> None:
    kernel = bare_product(Contraction.matmul(6, 8, 10), Tile("generic", 4, 2))
    kernel = dataclasses.replace(
        kernel,
        x=dataclasses.replace(kernel.x, declared=(2, 3, 8)),
        output=Output(dataclasses.replace(kernel.output.image, declared=(2, 3, 10))),
    )
    operands = random_operands(kernel)
    inputs = [operands.stored_x.reshape(2, 3, 8), operands.packed_weights]
    expected = sums(kernel, operands.x, operands.weights)
    np.testing.assert_allclose(run_product(kernel, inputs), expected, rtol=1e-5, atol=1e-5)


def test_one_thread_launches_nothing() -> None:
    kernel = bare_product(Contraction.matmul(6, 8, 10), Tile("generic", 4, 2))
    assert "T.parallel" not in str(product.emit(kernel, "f"))


@pytest.mark.parametrize(
    ("unit", "instruction"),
    [
        ("avx512", "vfmadd231ps"),
        ("avx512-vnni", "vpdpbusd"),
        ("avx-vnni", "vpdpbusd"),
        ("avx2-int8", "vpmaddwd"),
        ("avx512-bf16", "vdpbf16ps"),
        ("avx512-fp16-widened", "vcvtph2ps"),
        ("avx2-fp16-widened", "vcvtph2ps"),
    ],
)
def test_a_unit_is_compiled_to_its_own_instruction(unit: str, instruction: str) -> None:
    kernel = bare_product(Contraction.matmul(8, 16, 48), Tile(unit, 4, 2))
    compiled = compile_function(product.emit(kernel, "f"), *machine_for(unit))
    assert instruction in compiled.mod.inspect_source("asm")


def test_accumulators_stay_in_registers() -> None:
    kernel = bare_product(Contraction.matmul(64, 64, 48), Tile("avx512", 8, 3))
    compiled = compile_function(product.emit(kernel, "f"), *machine_for("avx512"))
    source = compiled.mod.inspect_source("ll")
    assert "@__TVMBackendAllocWorkspace" not in source


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"x": Image(1, 1, 6, 8, "uint8")}, "reads float32"),
        ({"contraction": convolution((1, 1, 6, 8), 4, (1, 3), pads=(0, 1, 0, 1))}, "halo"),
        ({"tile": Tile("generic", 2, 1, flat=True)}, "flat"),
        ({"contraction": Contraction(1, 1, 6, 6, 1, 6, 8, groups=2)}, "padded channels"),
    ],
)
def test_what_cannot_be_emitted_is_refused_with_the_reason(
    change: dict[str, object], reason: str
) -> None:
    contraction = convolution((1, 1, 6, 8), 4, stride=(1, 2))
    kernel = bare_product(contraction, Tile("generic", 2, 1))
    with pytest.raises(CompileError, match=reason):
        product.emit(dataclasses.replace(kernel, **change), "f")  # type: ignore[arg-type]


def test_depth_that_does_not_fill_a_group_is_refused() -> None:
    contraction = convolution((1, 1, 6, 8), 4)
    kernel = bare_product(contraction, Tile("avx2-int8", 2, 1))
    narrow = dataclasses.replace(kernel, x=Image(1, 1, 6, 7, "uint8"))
    with pytest.raises(CompileError, match="groups of 2"):
        product.emit(narrow, "f")


@pytest.mark.parametrize("unit", ["avx2-fp16-widened", "avx512-fp16-widened"])
@pytest.mark.parametrize("panel", [None, Panel(4, 40, 300)])
@pytest.mark.parametrize("depth", [255, 512, 771])
def test_long_rows_are_widened_piece_by_piece(unit: str, panel: Panel | None, depth: int) -> None:
    skip_unless_runnable(unit)
    kernel = bare_product(Contraction.matmul(7, depth, 21), Tile(unit, 3, 2))
    kernel = dataclasses.replace(kernel, panel=panel)
    operands = random_operands(kernel)
    stored = run_product(kernel, [operands.stored_x, operands.packed_weights])
    expected = sums(kernel, operands.x, operands.weights)
    assert np.all(np.abs(stored - expected) <= rounding_bound(kernel, operands))


@pytest.mark.parametrize("unit", ["generic", "avx2-bf16", "avx2-fp16-widened", "avx512-vnni"])
@FEW
@given(data=st.data())
def test_panels_change_no_sum(unit: str, data: st.DataObject) -> None:
    skip_unless_runnable(unit)
    draw = data.draw
    group = unit_named(unit).group
    size = (1, draw(st.integers(1, 3)), draw(st.integers(1, 9)), group * draw(st.integers(1, 30)))
    stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    contraction = convolution(size, draw(st.integers(1, 70)), stride=stride)
    tile = draw(tiles(unit).filter(lambda tile: stride == (1, 1) or not tile.flat))
    panel = Panel(*(draw(st.integers(1, largest)) for largest in (8, 40, 20)))
    kernel = dataclasses.replace(bare_product(contraction, tile), panel=panel)
    operands = random_operands(kernel)
    stored = run_product(kernel, [operands.stored_x, operands.packed_weights])
    expected = sums(kernel, operands.x, operands.weights)
    bound = rounding_bound(kernel, operands) if kernel.output.image.dtype == "float32" else 0
    assert np.all(np.abs(stored - expected) <= bound)


def test_only_products_larger_than_the_caches_have_panels() -> None:
    def panel(m: int, k: int, n: int) -> Panel | None:
        kernel = bare_product(Contraction.matmul(m, k, n), Tile("avx512", 8, 3))
        return panel_of(kernel, cache_bytes=2**20)

    assert panel(2048, 2048, 2048) == Panel(256, 256, 512)
    large = bare_product(Contraction.matmul(1024, 1024, 1024), Tile("amx-bf16", 2, 2))
    assert panel_of(large, cache_bytes=2**21) == Panel(256, 512, 256)
    few = bare_product(Contraction.matmul(128, 1024, 1024), Tile("amx-bf16", 2, 2))
    assert panel_of(few, cache_bytes=2**21) is None
    assert panel(1024, 1024, 1024) is None
    assert panel(1, 8192, 8192) is None
    window = convolution((1, 64, 64, 1024), 1024, (3, 3), pads=(1, 1, 1, 1))
    assert panel_of(bare_product(window, Tile("avx512", 8, 3)), cache_bytes=2**20) is None


@pytest.mark.parametrize("unit", ["generic", "generic-bf16", "avx2-fp16-widened", "avx512-vnni"])
@FEW
@given(rows=st.integers(1, 4), depth=st.integers(1, 70), columns=st.integers(1, 100))
def test_asking_for_weights_ahead_changes_no_sum(
    unit: str, rows: int, depth: int, columns: int
) -> None:
    skip_unless_runnable(unit)
    kernel = bare_product(Contraction.matmul(rows, depth, columns), Tile(unit, rows, 3))
    operands = random_operands(kernel)
    inputs = [operands.stored_x, operands.packed_weights]
    asking = run_product(dataclasses.replace(kernel, ahead=5), inputs)
    np.testing.assert_array_equal(asking, run_product(kernel, inputs))


def test_weights_are_asked_for_ahead_where_each_is_read_once_from_far_away() -> None:
    def ahead(m: int, k: int, n: int, unit: str = "avx512") -> int:
        return steps_ahead(bare_product(Contraction.matmul(m, k, n), Tile(unit, 4, 4)), 2**20)

    assert ahead(1, 1024, 1024) == ahead(4, 1024, 1024) == 16
    assert ahead(5, 1024, 1024) == 0
    assert ahead(1, 512, 512) == 0
    assert ahead(1, 1024, 1024, "avx512-vnni") == 0


def test_an_unknown_unit_is_refused_with_the_known_ones() -> None:
    kernel = bare_product(Contraction.matmul(1, 1, 1), Tile("generic", 1, 1))
    unknown = dataclasses.replace(kernel, tile=Tile("abacus", 1, 1))
    with pytest.raises(UnknownNameError, match="avx512-vnni"):
        product.emit(unknown, "f")


def run_product(kernel: ProductKernel, inputs: list[Array]) -> Array:
    machine = machine_for(kernel.tile.unit)
    return run(product.emit(kernel, "product"), inputs, kernel.output, *machine)


def without_inside(image: Image, stored: Array) -> Array:
    """The elements of the halo, in memory order."""
    top, left, _, _ = image.halo
    is_halo = np.ones(stored.shape, bool)
    is_halo[:, top : top + image.height, left : left + image.width] = False
    return stored[is_halo]
