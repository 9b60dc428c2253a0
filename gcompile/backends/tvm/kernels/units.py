"""What each execution unit computes with: register width, dot-product group, operand types.

A unit multiplies a group of `group` consecutive depth elements of one pixel with those of
`lanes` output channels, and adds the sums to `lanes` 32-bit accumulators.
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.errors import UnknownNameError


@dataclass(frozen=True, slots=True)
class Unit:
    """One instruction set that can carry a product.

    Attributes:
        vector_bits: Width of its vector registers.
        registers: How many of them there are.
        group: Elements of depth that one lane consumes at once.
        x_dtype: Type of the activations, as `Image.dtype` names it.
        weight_dtype: Storage type of the packed weights.
        is_tiled: It has two-dimensional tile registers (AMX); `registers` then counts those.
        signed_dot: Its instruction multiplies signed bytes only: activations are lowered by 128,
            and the packed weights end with a step of what that takes from each sum.
        widens: Its bfloat16 is only storage: both numbers of a pair are widened to float32.
        widens_rows: Its float16 is only storage: pixels are widened in memory, a piece of depth
            at a time, and weights as they are loaded.
        pixels: Pixels that one instruction multiplies.
        narrower: The unit for runs of depth that do not fill its groups.
    """

    name: str
    vector_bits: int
    registers: int
    group: int
    x_dtype: str
    weight_dtype: str
    is_tiled: bool = False
    widens: bool = False
    signed_dot: bool = False
    widens_rows: bool = False
    pixels: int = 1
    narrower: str = ""

    @property
    def lanes(self) -> int:
        """Output channels of one vector, or of one tile register."""
        return self.vector_bits // 32

    @property
    def depth_step(self) -> int:
        """Elements of depth of one instruction at most: a group, or the width of a tile."""
        return self.group * (16 if self.is_tiled else 1)

    @property
    def accumulator_dtype(self) -> str:
        """Integer products are summed exactly in int32, the others in float32."""
        return "int32" if self.x_dtype == "uint8" else "float32"

    @property
    def weight_bytes(self) -> int:
        """Bytes of one packed weight."""
        return {"int8": 1, "float32": 4}.get(self.weight_dtype, 2)

    def carrying(self, run: int) -> Unit:
        """Return this unit, or the narrower one where it cannot read runs of so many elements."""
        return unit_named(self.narrower) if run % self.group and self.narrower else self

    def registers_needed(self, rows: int, columns: int) -> int:
        """Registers a block of `rows` pixels by `columns` vectors of channels keeps alive.

        Compare it with `registers`. Vector units hold the accumulators, one weight vector per
        column and one broadcast pixel; where numbers are widened, two of each operand; and
        where the sum is an instruction of its own, the product.
        Tile units hold the shorter side of the block and stream the longer one.
        """
        if self.is_tiled:
            return rows * columns + min(rows, columns) + 1
        parts = 2 if self.widens else 1
        products = 1 if self.weight_dtype == "int16" and self.group == 2 else 0
        sums = -(-rows // self.pixels) * self.pixels * columns
        return sums + parts * (self.pixels * columns + 1) + products


def _float32(name: str, vector_bits: int, registers: int) -> Unit:
    return Unit(name, vector_bits, registers, 1, "float32", "float32")


def _bfloat16(
    name: str, vector_bits: int, registers: int, is_tiled: bool = False, widens: bool = False
) -> Unit:
    return Unit(name, vector_bits, registers, 2, "bfloat16", "uint16", is_tiled, widens)


def _widened_float16(name: str, vector_bits: int, registers: int) -> Unit:
    return Unit(name, vector_bits, registers, 1, "float16", "float16", widens_rows=True)


def _int8(name: str, vector_bits: int, registers: int, is_tiled: bool = False) -> Unit:
    return Unit(name, vector_bits, registers, 4, "uint8", "int8", is_tiled)


_UNITS = (
    _float32("avx512", 512, 32),
    _float32("avx2", 256, 16),
    _float32("neon", 128, 32),
    _float32("sse", 128, 16),
    _float32("generic", 128, 16),
    _int8("avx512-vnni", 512, 32),
    _int8("avx-vnni", 256, 16),
    Unit("neon-int8", 128, 32, 1, "uint8", "int16"),
    Unit("neon-dotprod", 128, 32, 4, "uint8", "int8", signed_dot=True),
    # The following two need FEAT_I8MM, which Linux calls i8mm.
    _int8("neon-usdot", 128, 32),
    Unit("neon-i8mm", 128, 32, 8, "uint8", "int8", pixels=2, narrower="neon-usdot"),
    # pmaddwd multiplies pairs of int16: no sum saturates, unlike pmaddubsw.
    Unit("avx2-int8", 256, 16, 2, "uint8", "int16"),
    Unit("sse-int8", 128, 16, 2, "uint8", "int16"),
    # Needs the vdpbf16ps instruction (avx512_bf16); without it, the widened unit below.
    _bfloat16("avx512-bf16", 512, 32),
    _bfloat16("avx512-bf16-widened", 512, 32, widens=True),
    _bfloat16("avx2-bf16", 256, 16, widens=True),
    _bfloat16("generic-bf16", 128, 16, widens=True),
    _bfloat16("neon-bf16-widened", 128, 32, widens=True),
    # The following two need FEAT_BF16, which Linux calls bf16.
    _bfloat16("neon-bf16", 128, 32),
    Unit("neon-bf16-mmla", 128, 32, 4, "bfloat16", "uint16", pixels=2, narrower="neon-bf16"),
    # vcvtph2ps of F16C, and fcvtl of every 64-bit ARM processor.
    _widened_float16("avx512-fp16-widened", 512, 32),
    _widened_float16("avx2-fp16-widened", 256, 16),
    _widened_float16("neon-fp16-widened", 128, 32),
    # Needs FEAT_FHM, which Linux calls asimdfhm.
    Unit("neon-fp16", 128, 32, 1, "float16", "float16"),
    _int8("amx-int8", 512, 8, is_tiled=True),
    _bfloat16("amx-bf16", 512, 8, is_tiled=True),
)

UNITS: dict[str, Unit] = {unit.name: unit for unit in _UNITS}
"""Every unit, by the name a `Tile` gives it."""


def unit_named(name: str) -> Unit:
    """The unit of a tile.

    Raises:
        UnknownNameError: No kernel is written for it.
    """
    if name not in UNITS:
        raise UnknownNameError("execution unit", name, UNITS)
    return UNITS[name]
