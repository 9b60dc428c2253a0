"""One step of a product on a vector unit: a group of one pixel times the weights of many channels.

Each unit loads a group of a pixel into every lane, loads the weights of as many channels, and adds
the products to an accumulator. Operands may be several vectors, one for each instruction.
"""

from __future__ import annotations

from typing import Protocol

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.lanes import Lanes
from gcompile.backends.tvm.kernels.units import Unit

Operand = tuple[Expr, ...]


class Dot(Protocol):
    """What the loop nest needs to know of a unit."""

    @property
    def llvm(self) -> str:
        """LLVM functions that `add` calls, as text; empty where it calls none."""

    def start(self, packed: Buffer, block: Expr) -> Expr:
        """Return what the sums of a block of channels start from."""

    def pixel(self, x: Buffer, address: Expr) -> Operand:
        """Load the group at `address` of the flat input into every lane."""

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        """Load one step's weights of a block of channels."""

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        """Return the accumulator with the products added."""


def dot_of(unit: Unit) -> Dot:
    """The arithmetic of a vector unit."""
    lanes = Lanes(unit.lanes)
    if unit.name == "avx2-int8":
        return _PairsOfInt16(lanes)
    if unit.signed_dot:
        return _SignedDot(lanes)
    if unit.x_dtype == "uint8":
        return _Vnni(lanes)
    if unit.x_dtype == "bfloat16":
        return _WidenedBfloat16(lanes) if unit.widens else _Bfloat16Pairs(lanes)
    return _Float32(lanes)


class _Float32:
    """Fused multiply-add of one number."""

    @property
    def llvm(self) -> str:
        return ""

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes

    def start(self, packed: Buffer, block: Expr) -> Expr:
        return self.lanes.splat(0.0)

    def pixel(self, x: Buffer, address: Expr) -> Operand:
        return (T.Bind(self.lanes.splat(x[address])),)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        return (T.Bind(packed[block, step, self.lanes.index(0)]),)

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        return accumulator + pixel[0] * weights[0]


class _Groups:
    """Units that take a group as the 32 bits of one lane."""

    group: int
    accumulator_dtype = "int32"

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes

    @property
    def llvm(self) -> str:
        return ""

    def start(self, packed: Buffer, block: Expr) -> Expr:
        return self.lanes.splat(0, self.accumulator_dtype)

    def pixel(self, x: Buffer, address: Expr) -> Operand:
        bits = T.reinterpret("int32", x[T.ramp(address, 1, self.group)])
        return (T.Bind(self.lanes.splat(bits)),)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        stored = packed[block, step, T.ramp(0, 1, self.lanes.count * self.group)]
        return (T.Bind(self.lanes.reinterpret("int32", stored)),)


class _Vnni(_Groups):
    """vpdpbusd: four uint8 times four int8, added to int32 without saturation."""

    group = 4

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        count = self.lanes.count
        return T.call_llvm_pure_intrin(
            self.lanes.type("int32"),
            f"llvm.x86.avx512.vpdpbusd.{count * 32}",
            accumulator,
            T.reinterpret(f"uint8x{count * 4}", pixel[0]),
            T.reinterpret(f"int8x{count * 4}", weights[0]),
        )


class _SignedDot(_Groups):
    """sdot: four int8 times four int8, added to int32. uint8 pixels are lowered by 128."""

    group = 4

    def start(self, packed: Buffer, block: Expr) -> Expr:
        last_step = packed.shape[1] - 1
        stored = packed[block, last_step, T.ramp(0, 1, self.lanes.count * 4)]
        return self.lanes.reinterpret("int32", stored)

    def pixel(self, x: Buffer, address: Expr) -> Operand:
        (bits,) = super().pixel(x, address)
        return (T.Bind(bits ^ self.lanes.splat(-0x7F7F7F80, "int32")),)

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        bytes_of_vector = f"int8x{self.lanes.count * 4}"
        return T.call_llvm_pure_intrin(
            self.lanes.type("int32"),
            "llvm.aarch64.neon.sdot",
            accumulator,
            T.reinterpret(bytes_of_vector, pixel[0]),
            T.reinterpret(bytes_of_vector, weights[0]),
        )


class _PairsOfInt16(_Groups):
    """vpmaddwd: two int16 times two int16, exact in int32. Pixels are widened from uint8."""

    group = 2

    def pixel(self, x: Buffer, address: Expr) -> Operand:
        pair = T.broadcast(T.reinterpret("uint16", x[T.ramp(address, 1, 2)]), self.lanes.count)
        stored = T.reinterpret(f"uint8x{self.lanes.count * 2}", pair)
        return (T.Bind(T.Cast(f"int16x{self.lanes.count * 2}", stored)),)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        return (T.Bind(packed[block, step, T.ramp(0, 1, self.lanes.count * 2)]),)

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        products = T.call_llvm_pure_intrin(
            self.lanes.type("int32"), "llvm.x86.avx2.pmadd.wd", pixel[0], weights[0]
        )
        return accumulator + products


class _Bfloat16Pairs(_Groups):
    """vdpbf16ps: two bfloat16 times two bfloat16, added to float32.

    TensorIR widens every bfloat16 vector before LLVM sees it, so the instruction is wrapped in an
    LLVM function of integer vectors, which is inlined.
    """

    group = 2
    accumulator_dtype = "float32"

    @property
    def llvm(self) -> str:
        count = self.lanes.count
        accumulator, bits = f"<{count} x float>", f"<{count} x i32>"
        pairs, instruction = f"<{2 * count} x bfloat>", f"dpbf16ps.{count * 32}"
        return f"""
declare {accumulator} @llvm.x86.avx512bf16.{instruction}({accumulator}, {pairs}, {pairs})
define linkonce_odr hidden {accumulator} @gcompile.{instruction}(
    {accumulator} %total, {bits} %x, {bits} %w) alwaysinline nounwind memory(none) {{
  %left = bitcast {bits} %x to {pairs}
  %right = bitcast {bits} %w to {pairs}
  %sum = call {accumulator} @llvm.x86.avx512bf16.{instruction}(
    {accumulator} %total, {pairs} %left, {pairs} %right)
  ret {accumulator} %sum
}}
"""

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        name = f"gcompile.dpbf16ps.{self.lanes.count * 32}"
        vector = self.lanes.type("float32")
        return T.call_pure_extern(vector, name, accumulator, pixel[0], weights[0])


class _WidenedBfloat16(_Groups):
    """bfloat16 as storage: a pair is split into two float32, then multiplied and added."""

    group = 2
    accumulator_dtype = "float32"

    def pixel(self, x: Buffer, address: Expr) -> Operand:
        return self._split(super().pixel(x, address)[0])

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        return self._split(super().weights(packed, block, step)[0])

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        return accumulator + pixel[0] * weights[0] + pixel[1] * weights[1]

    def _split(self, pairs: Expr) -> Operand:
        lower = pairs << self.lanes.splat(16, "int32")
        upper = pairs & self.lanes.splat(-65536, "int32")
        return (
            T.Bind(self.lanes.reinterpret("float32", lower)),
            T.Bind(self.lanes.reinterpret("float32", upper)),
        )
