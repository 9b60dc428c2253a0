"""Products with weights of few bits, against float64."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels.few_bits import EIGHT, FewBits, Matrix
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Panel
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.backends.tvm.kernels.weight_only import (
    WeightOnlyKernel,
    code,
    decoded_panel,
    decoding_unit,
)
from gcompile.errors import CompileError
from gcompile.ir.contraction import Contraction
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.compiling import Array, run, with_halo
from tests.backends.tvm.kernels.emulation import emulate, load_emulation
from tests.backends.tvm.kernels.examples import few
from tests.backends.tvm.kernels.machine import machine_for, skip_unless_runnable

UNITS = (
    "generic", "avx2", "avx512", "generic-bf16", "avx2-bf16", "avx512-bf16", "avx2-fp16-widened",
    "avx512-fp16-widened",
)  # fmt: skip
_ROUNDING = {"float32": (0, 0), "float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 0)}
"""Of a normal number relative to it, and of a subnormal one."""
FEW = few(5)


@dataclasses.dataclass(frozen=True)
class Case:
    """A product, its left operand as numbers, and its weights as they are stored and meant."""

    kernel: WeightOnlyKernel
    x: Array
    matrix: Matrix
    weights: Array

    @property
    def inputs(self) -> list[Array]:
        lanes = unit_named(self.kernel.tile.unit).lanes
        return [with_halo(self.kernel.x, self.x), *self.matrix.packed(lanes)]

    @property
    def bound(self) -> Array:
        """A rounding of each product, and where weights become narrow one of each of those.

        The smallest scales give weights that are subnormal in float16.
        """
        magnitude: Array = np.abs(self.x[0, 0]) @ np.abs(self.weights)
        dtype = self.kernel.x.dtype if self.kernel.contraction.m > 4 else "float32"
        step, least = _ROUNDING[dtype]
        subnormal: Array = np.abs(self.x[0, 0]).sum(-1, keepdims=True) * least
        return magnitude * ((len(self.weights) + 4) * 2.0**-24 + step) + subnormal


@st.composite
def cases(draw: st.DrawFn, unit_name: str, rows: st.SearchStrategy[int]) -> Case:
    unit = unit_named(unit_name)
    m, n = draw(rows), draw(st.integers(1, 70))
    k = draw(st.integers(1, 90)) * unit.group
    bits, block = draw(st.sampled_from([4, 8])), EIGHT * draw(st.integers(1, 12))
    shape = (n, -(-k // block))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    limit = 1 << (bits - 1)
    numbers = rng.integers(-limit, limit, (n, k)).astype(np.int8)
    scales = np.exp2(rng.uniform(-20, 2, shape)).astype(draw(st.sampled_from(["f2", "f4"])))
    zeros = rng.integers(-limit, limit, shape) * draw(st.booleans())
    matrix = Matrix(numbers, scales.astype(np.float32), zeros.astype(np.int8), bits, block)
    real = (numbers - np.repeat(zeros, block, 1)[:, :k]) * np.repeat(scales, block, 1)[:, :k]
    tile = Tile(
        unit_name,
        draw(st.sampled_from([1, 2])) if unit.is_tiled else draw(st.integers(1, 5)),
        draw(st.integers(1, 2 if unit.is_tiled else 4)),
        outer=draw(st.sampled_from(["m", "n"])),
        split=draw(st.sampled_from(["m", "n"])),
        threads=draw(st.sampled_from([1, 2, 3])),
    )
    dtype = np.dtype(ml_dtypes.bfloat16 if unit.x_dtype == "bfloat16" else unit.x_dtype)
    x = rng.standard_normal((1, 1, m, k)).astype(dtype).astype(np.float64)
    kernel = WeightOnlyKernel(
        output=Output(Image(1, 1, m, n)),
        expression=Accumulator(),
        contraction=Contraction.matmul(m, k, n),
        x=Image(1, 1, m, k, unit.x_dtype),
        tile=tile,
        panel=Panel(draw(st.integers(1, 9)), draw(st.integers(1, 40)), draw(st.integers(1, 60))),
        stored=matrix.stored,
    )
    return Case(kernel, x, matrix, real.astype(np.float64).T)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("rows", [st.integers(1, 4), st.integers(5, 13)], ids=["few", "more"])
@FEW
@given(data=st.data())
def test_weights_of_few_bits_are_multiplied_at_any_size(
    unit: str, rows: st.SearchStrategy[int], data: st.DataObject
) -> None:
    skip_unless_runnable(unit)
    case = data.draw(cases(unit, rows))
    function = code(case.kernel).function("product")
    outputs = run(function, case.inputs, case.kernel.output, *machine_for(unit))
    assert np.all(np.abs(outputs[0, 0] - case.x[0, 0] @ case.weights) <= case.bound)


@FEW
@given(case=cases("amx-bf16", st.sampled_from([2, 5, 16, 33])))
def test_tiles_multiply_decoded_panels(case: Case) -> None:
    faults: Callable[[], int] = load_emulation()
    function = code(case.kernel, emulate).function("product")
    outputs = run(function, case.inputs, case.kernel.output)
    assert np.all(np.abs(outputs[0, 0] - case.x[0, 0] @ case.weights) <= case.bound)
    assert faults() == 0


def test_four_bits_take_half_a_byte_and_short_scales_two() -> None:
    rng = np.random.default_rng(0)
    numbers = rng.integers(-8, 8, (32, 64)).astype(np.int8)
    zeros = np.zeros((32, 2), np.int8)
    short = Matrix(numbers, np.full((32, 2), 0.5, np.float32), zeros, 4, 32)
    assert [array.nbytes for array in short.packed(16)] == [32 * 64 // 2, 32 * 2 * 2]
    long = dataclasses.replace(short, scales=np.full((32, 2), 0.1, np.float32))
    assert [array.nbytes for array in long.packed(16)] == [32 * 64 // 2, 32 * 2 * 4]
    shifted = dataclasses.replace(short, zero_points=zeros + np.int8(1))
    assert [array.nbytes for array in shifted.packed(16)][2:] == [32 * 2]


def test_scales_beyond_the_range_of_float16_stay_float32() -> None:
    huge = np.full((1, 1), 2.0**20, np.float32)
    matrix = Matrix(np.ones((1, 8), np.int8), huge, np.zeros((1, 1), np.int8), 4, 8)
    assert matrix.stored.scale_dtype == "float32"


@pytest.mark.parametrize(("bits", "block"), [(4, 12), (3, 32)])
def test_other_bits_and_blocks_are_refused_with_the_remedy(bits: int, block: int) -> None:
    with pytest.raises(CompileError, match="use 4 or 8 bits and blocks of a multiple of 8"):
        FewBits(bits, block)


def test_what_the_kernel_cannot_carry_is_refused() -> None:
    kernel = WeightOnlyKernel(
        output=Output(Image(1, 1, 9, 4)),
        expression=Accumulator(),
        contraction=Contraction.matmul(9, 8, 4),
        x=Image(1, 1, 9, 8),
        tile=Tile("generic", 1, 1),
    )
    with pytest.raises(CompileError, match="needs panels"):
        code(kernel)
    with pytest.raises(CompileError, match="does not multiply float32"):
        code(dataclasses.replace(kernel, tile=Tile("avx512-vnni", 1, 1)))
    with pytest.raises(CompileError, match="not convolutions"):
        code(dataclasses.replace(kernel, contraction=Contraction(1, 3, 3, 8, 3, 3, 4)))
    x = dataclasses.replace(kernel.x, dtype="bfloat16")
    large = dataclasses.replace(kernel, x=x, tile=Tile("amx-bf16", 4, 4))
    with pytest.raises(CompileError, match="tile registers"):
        code(large)


def test_units_that_multiply_pairs_of_pixels_leave_it_to_the_narrower_one() -> None:
    assert decoding_unit(Tile("neon-bf16-mmla", 2, 2)).name == "neon-bf16"
    assert decoding_unit(Tile("neon-bf16", 2, 2)).name == "neon-bf16"


def test_a_decoded_panel_takes_half_the_cache() -> None:
    panel = decoded_panel(unit_named("avx512"), 2**20)
    assert panel.columns * panel.depth * 4 == 2**19
