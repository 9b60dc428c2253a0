"""Products on 64-bit ARM: the kernels' logic on emulated instructions, the instructions by eye."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tvm
from hypothesis import given
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import batched, product
from gcompile.backends.tvm.kernels.batched import BatchedKernel
from gcompile.backends.tvm.kernels.matrices import Matrices
from gcompile.backends.tvm.kernels.packing import fitting
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Panel, ProductKernel
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.arm import FEATURES, arm_target, emulated_instructions
from tests.backends.tvm.kernels.arm_machine import Program, run_on_arm
from tests.backends.tvm.kernels.compiling import Array, inside, run
from tests.backends.tvm.kernels.examples import few
from tests.backends.tvm.kernels.products import (
    bare_product,
    convolution,
    product_kernels,
    random_operands,
    rounding_bound,
    sums,
)

UNITS = tuple(unit for unit in FEATURES if unit != "neon")
FEW = few()


def tiles(unit: str) -> st.SearchStrategy[Tile]:
    return st.builds(
        Tile,
        unit=st.just(unit),
        rows=st.integers(1, 5),
        columns=st.integers(1, 3),
        flat=st.booleans(),
        split=st.sampled_from(["m", "n"]),
        threads=st.sampled_from([1, 1, 3]),
    )


def check_sums(kernel: ProductKernel) -> None:
    operands = random_operands(kernel)
    with emulated_instructions():
        program = product.emit(kernel, "product")
    stored = run(program, [operands.stored_x, operands.packed_weights], kernel.output)
    expected = sums(kernel, operands.x, operands.weights)
    bound = rounding_bound(kernel, operands) if kernel.output.image.dtype == "float32" else 0
    assert np.all(np.abs(inside(kernel.output.image, stored) - expected) <= bound)


@pytest.mark.parametrize("unit", UNITS)
@FEW
@given(data=st.data())
def test_a_unit_sums_every_product_of_any_shape(unit: str, data: st.DataObject) -> None:
    check_sums(data.draw(product_kernels(unit, tiles(unit))))


def test_an_emulated_processor_computes_the_same(tmp_path: Path) -> None:
    contraction = convolution((2, 5, 6, 8), 21, (3, 2), (1, 2), pads=(1, 0, 1, 1))
    kernels = {
        unit.replace("-", "_"): bare_product(contraction, Tile(unit, 3, 2)) for unit in FEATURES
    }
    operands = {name: random_operands(kernel) for name, kernel in kernels.items()}
    programs = {
        name: Program(
            product.emit(kernel, name),
            [operands[name].stored_x, operands[name].packed_weights],
            kernel.output,
        )
        for name, kernel in kernels.items()
    }
    for name, stored in run_on_arm(programs, tmp_path).items():
        kernel, read = kernels[name], operands[name]
        bound = rounding_bound(kernel, read) if kernel.output.image.dtype == "float32" else 0
        assert np.all(np.abs(stored - sums(kernel, read.x, read.weights)) <= bound)


@pytest.mark.parametrize("unit", ["neon-i8mm", "neon-bf16-mmla"])
def test_sums_of_two_pixels_wait_between_panels(unit: str) -> None:
    kernel = bare_product(Contraction.matmul(7, 120, 21), Tile(unit, 3, 2))
    check_sums(dataclasses.replace(kernel, panel=Panel(4, 8, 40)))


@pytest.mark.parametrize(
    ("unit", "instruction"),
    [
        ("neon", "fmla"),
        ("neon-int8", "smlal"),
        ("neon-dotprod", "sdot"),
        ("neon-usdot", "usdot"),
        ("neon-i8mm", "usmmla"),
        ("neon-fp16-widened", "fmla"),
        ("neon-fp16", "fmlal"),
        ("neon-bf16", "bfdot"),
        ("neon-bf16-mmla", "bfmmla"),
    ],
)
def test_a_unit_is_compiled_to_its_own_instruction(unit: str, instruction: str) -> None:
    kernel = bare_product(Contraction.matmul(8, 16, 24), Tile(unit, 4, 2))
    module = tvm.IRModule({"f": product.emit(kernel, "f")})
    assembly = tvm.compile(module, target=arm_target(FEATURES[unit])).mod.inspect_source("asm")
    lines = [line.split()[0] for line in assembly.splitlines() if line.strip()]
    assert lines.count(instruction) >= 4 * 2


@pytest.mark.parametrize(
    ("unit", "narrower"), [("neon-i8mm", "neon-usdot"), ("neon-bf16-mmla", "neon-bf16")]
)
def test_depth_that_fills_no_matrix_is_multiplied_by_dots(unit: str, narrower: str) -> None:
    group = {"neon-i8mm": 8, "neon-bf16-mmla": 4}[unit]
    wide = bare_product(convolution((1, 3, 6, group), 5, (1, 2)), Tile(unit, 4, 2))
    assert fitting(wide) == wide
    image = dataclasses.replace(wide.x, channels=group // 2)
    narrow = dataclasses.replace(
        wide, x=image, contraction=convolution((1, 3, 6, group // 2), 5, (1, 1))
    )
    assert fitting(narrow).tile == Tile(narrower, 4, 2)


@pytest.mark.parametrize("unit", ["neon-dotprod", "neon-int8", "neon-usdot"])
@pytest.mark.parametrize("is_transposed", [False, True])
def test_matrices_are_packed_at_run_time(unit: str, is_transposed: bool) -> None:
    m, n, k = 5, 7, 26
    rows, columns = (n, k) if is_transposed else (k, n)
    kernel = BatchedKernel(
        output=Output(Image(2, 1, m, n, "int32")),
        expression=Accumulator(),
        left=Matrices.in_image(Image(2, 1, m, k, "uint8"), k),
        right=Matrices.in_image(Image(2, 1, rows, columns, "int8"), columns),
        is_transposed=is_transposed,
        zero_points=(100, 3),
        tile=Tile(unit, 3, 2),
    )
    rng = np.random.default_rng(0)
    left = rng.integers(0, 256, (2, 1, m, k)).astype(np.uint8)
    right = rng.integers(-128, 128, (2, 1, rows, columns)).astype(np.int8)
    with emulated_instructions():
        program = batched.emit(kernel, "batched")
    stored = run(program, [left, right], kernel.output)
    factors: Array = right.astype(np.int64) - 3
    factors = factors.swapaxes(-1, -2) if is_transposed else factors
    np.testing.assert_array_equal(stored, (left.astype(np.int64) - 100) @ factors)


def test_matrices_of_two_computed_operands_have_a_narrower_unit() -> None:
    square = Matrices.in_image(Image(1, 1, 8, 8, "uint8"), 8)
    kernel = BatchedKernel(
        output=Output(Image(1, 1, 8, 8, "int32")),
        expression=Accumulator(),
        left=square,
        right=square,
        tile=Tile("neon-i8mm", 2, 2),
    )
    with pytest.raises(CompileError, match="take 'neon-usdot'"):
        batched.code(kernel)
