"""One step of a product on a vector unit: a group of one pixel times the weights of many channels.

Each unit loads a group of a pixel into every lane, loads the weights of as many channels, and adds
the products to an accumulator. Operands may be several vectors, one for each instruction.
"""

from __future__ import annotations

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.dot_arm import ARM_DOTS
from gcompile.backends.tvm.kernels.dot_groups import Dot, Groups, Numbers, Operand
from gcompile.backends.tvm.kernels.lanes import Lanes
from gcompile.backends.tvm.kernels.units import Unit


def dot_of(unit: Unit) -> Dot:
    """The arithmetic of a vector unit."""
    lanes = Lanes(unit.lanes)
    if unit.name in ARM_DOTS:
        return ARM_DOTS[unit.name](lanes)
    if unit.weight_dtype == "int16":
        return _PairsOfInt16(lanes)
    if unit.x_dtype == "uint8":
        return _Vnni(lanes)
    if unit.x_dtype == "bfloat16":
        return _WidenedBfloat16(lanes) if unit.widens else _Bfloat16Pairs(lanes)
    return Numbers(lanes) if unit.x_dtype == "float32" else _WidenedFloat16(lanes)


class _WidenedFloat16(Numbers):
    """float16 as storage. Pixels come widened, or where a few are left over, are so one by one."""

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        return (T.Bind(self.lanes.splat(T.Cast("float32", x[addresses[0]]))),)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        return (T.Bind(self.lanes.cast("float32", packed[block, step, self.lanes.index(0)])),)


class _Vnni(Groups):
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


class _PairsOfInt16(Groups):
    """pmaddwd: two int16 times two int16, exact in int32. Pixels are widened from uint8."""

    group = 2

    @property
    def _instruction(self) -> str:
        return f"llvm.x86.{'avx2' if self.lanes.count == 8 else 'sse2'}.pmadd.wd"

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        pair = T.broadcast(
            T.reinterpret("uint16", x[T.ramp(addresses[0], 1, 2)]), self.lanes.count
        )
        stored = T.reinterpret(f"uint8x{self.lanes.count * 2}", pair)
        return (T.Bind(T.Cast(f"int16x{self.lanes.count * 2}", stored)),)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        return (T.Bind(packed[block, step, T.ramp(0, 1, self.lanes.count * 2)]),)

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        products = T.call_llvm_pure_intrin(
            self.lanes.type("int32"), self._instruction, pixel[0], weights[0]
        )
        return accumulator + products


class _Bfloat16Pairs(Groups):
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


class _WidenedBfloat16(Groups):
    """bfloat16 as storage: a pair is split into two float32, then multiplied and added."""

    group = 2
    accumulator_dtype = "float32"

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        return self._split(super().pixel(x, *addresses)[0])

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
