"""Dot products and small matrix products of 64-bit ARM, by the names of their units.

A matrix instruction multiplies two pixels with two channels: of the depth it takes as much as a
dot product of two pixels would. Its four sums, two for each pixel, fill one register. So the
registers of two pixels hold the sums of both, the first two channels in the one and the other two
in the other, until `apart` puts each pixel's sums into its own register.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import tirx
from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.dot_groups import Dot, Groups, Numbers, Operand
from gcompile.backends.tvm.kernels.lanes import Lanes


class SignedDot(Groups):
    """sdot: four int8 times four int8, added to int32. uint8 pixels are lowered by 128."""

    group = 4

    def start(self, packed: Buffer, block: Expr) -> Expr:
        last_step = packed.shape[1] - 1
        stored = packed[block, last_step, T.ramp(0, 1, self.lanes.count * 4)]
        return self.lanes.reinterpret("int32", stored)

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        (bits,) = super().pixel(x, *addresses)
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


class MixedDot(Groups):
    """usdot: four uint8 times four int8, added to int32."""

    group = 4

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        count = self.lanes.count
        return T.call_llvm_pure_intrin(
            self.lanes.type("int32"),
            "llvm.aarch64.neon.usdot",
            accumulator,
            T.reinterpret(f"uint8x{count * 4}", pixel[0]),
            T.reinterpret(f"int8x{count * 4}", weights[0]),
        )


class WidenedInt16(Groups):
    """smlal: int16 times int16, added to int32. Pixels are widened from uint8."""

    group = 1

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        return (T.Bind(self.lanes.splat(T.Cast("int16", x[addresses[0]]))),)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        return (T.Bind(packed[block, step, self.lanes.index(0)]),)

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        left, right = (self.lanes.cast("int32", operand[0]) for operand in (pixel, weights))
        return accumulator + left * right


class Bfloat16Dot(Groups):
    """bfdot: two bfloat16 times two bfloat16, added to float32.

    TensorIR widens every bfloat16 vector before LLVM sees it, so the instruction is wrapped in an
    LLVM function of integer vectors, which is inlined.
    """

    group = 2
    accumulator_dtype = "float32"
    instruction = "bfdot"
    intrinsic = "bfdot.v4f32.v8bf16"

    @property
    def llvm(self) -> str:
        name = f"@llvm.aarch64.neon.{self.intrinsic}"
        return f"""
declare <4 x float> {name}(<4 x float>, <8 x bfloat>, <8 x bfloat>)
define linkonce_odr hidden <4 x float> @gcompile.{self.instruction}(
    <4 x float> %total, <4 x i32> %x, <4 x i32> %w) alwaysinline nounwind memory(none) {{
  %left = bitcast <4 x i32> %x to <8 x bfloat>
  %right = bitcast <4 x i32> %w to <8 x bfloat>
  %sum = call <4 x float> {name}(<4 x float> %total, <8 x bfloat> %left, <8 x bfloat> %right)
  ret <4 x float> %sum
}}
"""

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        name = f"gcompile.{self.instruction}"
        vector = self.lanes.type("float32")
        return T.call_pure_extern(vector, name, accumulator, pixel[0], weights[0])


class Float16Product(Numbers):
    """fmlal: float16 times float16, exact, added to float32 with one rounding.

    It multiplies the lower halves of two registers: four channels, as many as have a sum.
    """

    @property
    def llvm(self) -> str:
        return """
declare <4 x float> @llvm.aarch64.neon.fmlal.v4f32.v8f16(<4 x float>, <8 x half>, <8 x half>)
define linkonce_odr hidden <4 x float> @gcompile.fmlal(
    <4 x float> %total, <4 x half> %x, <4 x half> %w) alwaysinline nounwind memory(none) {
  %left = shufflevector <4 x half> %x, <4 x half> poison,
    <8 x i32> <i32 0, i32 1, i32 2, i32 3, i32 poison, i32 poison, i32 poison, i32 poison>
  %right = shufflevector <4 x half> %w, <4 x half> poison,
    <8 x i32> <i32 0, i32 1, i32 2, i32 3, i32 poison, i32 poison, i32 poison, i32 poison>
  %sum = call <4 x float> @llvm.aarch64.neon.fmlal.v4f32.v8f16(
    <4 x float> %total, <8 x half> %left, <8 x half> %right)
  ret <4 x float> %sum
}
"""

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        vector = self.lanes.type("float32")
        return T.call_pure_extern(vector, "gcompile.fmlal", accumulator, pixel[0], weights[0])


def _two_pixels(x: Buffer, addresses: tuple[Expr, ...], group: int) -> Operand:
    """The groups of two pixels side by side in one register."""
    halves = [T.reinterpret("int64", x[T.ramp(address, 1, group)]) for address in addresses]
    return (T.Bind(T.reinterpret("int32x4", tirx.Shuffle(halves, [0, 1]))),)


def _four_channels(packed: Buffer, block: Expr, step: Expr, group: int) -> Operand:
    """The groups of two channels in one register, those of the next two in another."""
    halves = (packed[block, step, T.ramp(start, 1, 2 * group)] for start in (0, 2 * group))
    return tuple(T.Bind(T.reinterpret("int32x4", half)) for half in halves)


class MixedMatrix(MixedDot):
    """usmmla: eight uint8 of two pixels times eight int8 of two channels, added to int32."""

    group = 8

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        return _two_pixels(x, addresses, self.group)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        return _four_channels(packed, block, step, self.group)

    def add(self, accumulator: Expr, pixel: Operand, weights: Operand) -> Expr:
        return T.call_llvm_pure_intrin(
            "int32x4",
            "llvm.aarch64.neon.usmmla",
            accumulator,
            T.reinterpret("uint8x16", pixel[0]),
            T.reinterpret("int8x16", weights[0]),
        )


class Bfloat16Matrix(Bfloat16Dot):
    """bfmmla: four bfloat16 of two pixels times four of two channels, added to float32."""

    group = 4
    instruction = "bfmmla"
    intrinsic = "bfmmla"

    def pixel(self, x: Buffer, *addresses: Expr) -> Operand:
        return _two_pixels(x, addresses, self.group)

    def weights(self, packed: Buffer, block: Expr, step: Expr) -> Operand:
        return _four_channels(packed, block, step, self.group)


def apart(first: Expr, second: Expr) -> tuple[Expr, Expr]:
    """The sums of the first pixel and of the second, from registers that hold some of both."""
    return tirx.Shuffle([first, second], [0, 1, 4, 5]), tirx.Shuffle([first, second], [2, 3, 6, 7])


ARM_DOTS: dict[str, Callable[[Lanes], Dot]] = {
    "neon-int8": WidenedInt16,
    "neon-dotprod": SignedDot,
    "neon-usdot": MixedDot,
    "neon-i8mm": MixedMatrix,
    "neon-fp16": Float16Product,
    "neon-bf16": Bfloat16Dot,
    "neon-bf16-mmla": Bfloat16Matrix,
}
