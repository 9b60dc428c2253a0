"""Functions of the device that programs call, in CUDA C with inline PTX."""

PRELUDE = r"""
// Loops of a known length are unrolled whatever is asked for, and addresses fill all registers.
__device__ __forceinline__ int unknown(int value) {
  asm volatile("" : "+r"(value));
  return value;
}
__device__ __forceinline__ float f16_to_float(unsigned bits) {
  float value;
  const unsigned short half = bits;
  asm("{.reg .f16 h; mov.b16 h, %1; cvt.f32.f16 %0, h;}" : "=f"(value) : "h"(half));
  return value;
}
__device__ __forceinline__ unsigned float_to_f16(float value) {
  unsigned short bits;
  asm("{.reg .f16 h; cvt.rn.f16.f32 h, %1; mov.b16 %0, h;}" : "=h"(bits) : "f"(value));
  return bits;
}
__device__ __forceinline__ unsigned pack_f16(float low, float high) {
#if __CUDA_ARCH__ >= 800
  unsigned bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#else
  return float_to_f16(low) | float_to_f16(high) << 16;
#endif
}
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
__device__ __forceinline__ unsigned fma_f16(unsigned a, unsigned b, unsigned c) {
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(a) : "r"(a), "r"(b), "r"(c));
  return a;
}
__device__ __forceinline__ unsigned fma_bf16(unsigned a, unsigned b, unsigned c) {
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(a) : "r"(a), "r"(b), "r"(c));
  return a;
}
__device__ __forceinline__ float exp2_approximately(float value) {
  asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(value));
  return value;
}
__device__ __forceinline__ float bf16_to_float(unsigned bits) {
  return __uint_as_float(bits << 16);
}
__device__ __forceinline__ unsigned float_to_bf16(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
"""
