"""What the text of generated kernels begins with, for CUDA and for a C++ compiler.

A kernel's body is a sequence of phases with barriers between them. Nothing but shared memory,
arguments and what is declared `PRIVATE` outlives a phase. On a GPU all threads run a phase side by
side; the CPU form of the same text runs a phase as a loop over the threads of a block, so that a
barrier is nothing at all and `PRIVATE` registers are an array with a row for each thread.
"""

from __future__ import annotations

PRELUDE = r"""
#ifndef GCOMPILE_PRELUDE
#define GCOMPILE_PRELUDE
typedef signed char int8;
typedef unsigned char uint8;
typedef short int16;
typedef unsigned short uint16;
typedef unsigned int uint32;
typedef long long int64;
typedef unsigned long long uint64;
#ifdef __CUDACC__
#define PHASE
#define PRIVATE(type, name, count) type name[count]
#define OWN(name) name
#define DEVICE static __device__ __forceinline__
#else
#define PHASE for (threadIdx.x = 0; threadIdx.x < blockDim.x; ++threadIdx.x)
#define PRIVATE(type, name, count) static type name[1024][count]
#define OWN(name) name[threadIdx.x]
#define DEVICE static inline
#define __global__
#define __shared__ static
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __syncthreads()
#include <math.h>
#include <string.h>
struct Index { int x, y, z; };
static Index blockIdx, threadIdx, blockDim;
#endif
#define INFINITE (1.0f / 0.0f)
#define NOT_A_NUMBER (0.0f / 0.0f)
template <class T> DEVICE T larger(T a, T b) { return a > b ? a : b; }
template <class T> DEVICE T smaller(T a, T b) { return a < b ? a : b; }
template <class T> DEVICE T floor_div(T a, T b) { return a / b - ((a % b != 0) & ((a ^ b) < 0)); }
template <class T> DEVICE T floor_mod(T a, T b) { return a - floor_div(a, b) * b; }
DEVICE float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
template <class To, class From> DEVICE To bits_of(From a) {
  static_assert(sizeof(To) == sizeof(From), "");
  To b;
  memcpy(&b, &a, sizeof b);
  return b;
}
#ifdef __CUDACC__
DEVICE float widen_float16(uint16 bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
DEVICE uint16 narrow_float16(float value) {
  uint16 bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
#define MEMBER __device__ __forceinline__
#else
DEVICE float widen_float16(uint16 bits) { return (float)bits_of<_Float16>(bits); }
DEVICE uint16 narrow_float16(float value) { return bits_of<uint16>((_Float16)value); }
#define MEMBER inline
#endif
DEVICE uint16 narrow_bfloat16(float value) {
  uint32 bits = bits_of<uint32>(value);
  return value != value ? 0x7fc0 : (uint16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
struct float16 {
  uint16 bits;
  float16() = default;
  MEMBER float16(float value) : bits(narrow_float16(value)) {}
  MEMBER operator float() const { return widen_float16(bits); }
};
struct bfloat16 {
  uint16 bits;
  bfloat16() = default;
  MEMBER bfloat16(float value) : bits(narrow_bfloat16(value)) {}
  MEMBER operator float() const { return bits_of<float>((uint32)bits << 16); }
};
#endif
"""

C_TYPES = {
    "bool": "bool",
    "float16": "float16",
    "bfloat16": "bfloat16",
    "float32": "float",
    "float64": "double",
    "int8": "int8",
    "int16": "int16",
    "int32": "int",
    "int64": "int64",
    "uint8": "uint8",
    "uint16": "uint16",
    "uint32": "uint32",
    "uint64": "uint64",
}
"""Element types, as numpy and `ml_dtypes` name them, and what the text calls them."""
