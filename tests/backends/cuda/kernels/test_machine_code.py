"""What the compiler makes of the products: tensor cores are used, and no register spills."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.choose_tile import choose_tile
from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.kernels.tile_cost import Work, registers_of
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Image,
    Load,
    Output,
    PerChannel,
    Source,
    Unary,
)
from gcompile.ir import Contraction
from gcompile.targets import load_target
from tests.backends.cuda.disassembly import compiled, instructions
from tests.backends.cuda.kernels.products import TESTED, pitch_of

_UNITS = {"f16": "HMMA", "bf16": "HMMA", "tf32": "HMMA", "s8s8": "IMMA", "u8s8": "IMMA"}
_STORED = {
    "f16": "float16",
    "bf16": "bfloat16",
    "tf32": "float32",
    "s8s8": "int8",
    "u8s8": "uint8",
}

_CONVOLUTION = Contraction(
    1, 28, 28, 128, 28, 28, 128, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1
)


def _fused(name: str, contraction: Contraction, tile: BlockTile) -> Product:
    """Bias, residual and activation, as after most convolutions."""
    dtype = _STORED.get(name.removesuffix("-75"), "float16")
    image = Image(1, 1, contraction.m, contraction.n, dtype)
    expression = Unary("relu", Binary("add", Binary("add", Accumulator(), PerChannel(0)), Load(0)))
    epilogue = Epilogue(Output(image, 0.5), expression, (Source(image),), 1)
    instruction = TESTED[name]
    pitch = pitch_of(contraction.k, instruction.element_bytes)
    return Product("fused", instruction, contraction, tile, epilogue, contraction.in_c, pitch)


def _check(product: Product, arch: str, unit: str, folder: Path) -> None:
    rows, columns = product.tile.fragments(product.instruction)
    main, *_ = product.programs()
    work = Work(product.contraction, 1, product.instruction, 2.0)
    code = compiled(main, arch)
    assert code.spilled_bytes == 0
    assert code.registers <= math.ceil((registers_of(work, product.tile) + 8) / 8) * 8
    found = instructions(code, folder)
    steps = product.tile.depth_bytes // product.instruction.depth_bytes
    assert found[unit] == rows * columns * steps * len(product.instruction.pieces)
    assert found["LDSM"] >= (rows + columns / 2) * steps
    assert (found["LDGSTS"] > 0) != product.tile.by_registers


@pytest.mark.parametrize("name", sorted(_UNITS))
def test_large_tiles_of_a_convolution_use_tensor_cores_without_spills(
    name: str, tmp_path: Path
) -> None:
    tile = BlockTile(128, 128, 64, 64, stages=3)
    _check(_fused(name, _CONVOLUTION, tile), "80", _UNITS[name], tmp_path)


def test_the_loop_over_a_great_depth_stays_a_loop(tmp_path: Path) -> None:
    """Unrolled, its 36 steps would need all registers for their addresses, and more."""
    last = Contraction(
        1, 7, 7, 512, 7, 7, 512, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1
    )
    main, *_ = _fused("u8s8", last, BlockTile(16, 16, 16, 16, 128, 6)).programs()
    code = compiled(main, "90")
    assert code.spilled_bytes == 0
    assert instructions(code, tmp_path)["IMMA"] == 1 * 2 * 4


@pytest.mark.parametrize("name", ["f16-75", "u8s8-75"])
def test_sm_75_has_smaller_instructions_and_loads_through_registers(
    name: str, tmp_path: Path
) -> None:
    tile = BlockTile(128, 128, 64, 64, stages=2, by_registers=True)
    unit = "HMMA" if name == "f16-75" else "IMMA"
    _check(_fused(name, _CONVOLUTION, tile), "75", unit, tmp_path)


@pytest.mark.parametrize("arch", ["86", "90"])
def test_other_architectures_compile_the_same_text(arch: str, tmp_path: Path) -> None:
    tile = BlockTile(64, 64, 32, 32, 128, 4)
    _check(_fused("s8s8", _CONVOLUTION, tile), arch, "IMMA", tmp_path)


def test_fp8_runs_on_its_own_unit(tmp_path: Path) -> None:
    product = _fused("e4m3", Contraction.matmul(256, 256, 256), BlockTile(64, 64, 32, 32))
    code = compiled(product.programs()[0], "89")
    assert code.spilled_bytes == 0
    assert instructions(code, tmp_path)["QMMA"] > 0


@pytest.mark.parametrize(
    ("name", "unit"), [("f16", "HGMMA"), ("s8s8", "IGMMA"), ("e4m3", "QGMMA")]
)
def test_groups_of_warps_multiply_from_shared_memory(name: str, unit: str, tmp_path: Path) -> None:
    tile = BlockTile(128, 128, 16, 128, 128, 4, by_groups=True)
    (program,) = _fused(name, _CONVOLUTION, tile).programs()
    assert program.uses_groups
    code = compiled(program, "90a")
    assert code.spilled_bytes == 0
    found = instructions(code, tmp_path)
    assert found[unit] == 4
    assert found["LDSM"] == 0


@pytest.mark.parametrize(
    ("name", "target", "arch"), [("f16", "nvidia-a100-sxm-80", 80), ("f16-75", "nvidia-t4", 75)]
)
@pytest.mark.parametrize("m", [49, 12544])
def test_chosen_tiles_never_spill(m: int, name: str, target: str, arch: int) -> None:
    contraction = Contraction(
        1, 1, m, 256, 1, m, 250, 1, 3, pad_left=1, pad_right=1
    )  # No tile divides its columns.
    work = Work(contraction, 1, TESTED[name], 2.0)
    tile = choose_tile(work, load_target(target), arch)
    for program in _fused(name, contraction, tile).programs():
        assert compiled(program, str(arch)).spilled_bytes == 0
