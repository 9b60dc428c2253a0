// Each `peak_` function runs `steps` rounds of independent multiply-adds and returns the operations
// done, two per multiply-accumulate; 0 when this machine has no instruction for it.
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define BYTES 64
#define SUMS 24
#else
#define BYTES 32
#define SUMS 12
#endif

// Unrolled, so that the sums become registers.
#define EACH_SUM _Pragma("GCC unroll 24") for (int i = 0; i < SUMS; i++)

typedef float floats __attribute__((vector_size(BYTES)));

// Keeps a value in a register, and the compiler from knowing what it is.
#define HOLD(x) __asm__ volatile("" : "+v"(x))

static volatile float sink;

double peak_fp32(long steps) {
#if defined(__AVX2__) || defined(__AVX512F__)
  floats sums[SUMS], x = {0}, y = {0};
  EACH_SUM sums[i] = x;
  for (long s = 0; s < steps; s++) {
    HOLD(x);
    HOLD(y);
    EACH_SUM {
      sums[i] = x * y + sums[i];
      HOLD(sums[i]);
    }
  }
  EACH_SUM sink = sums[i][0];
  return 2.0 * steps * SUMS * (BYTES / 4);
#else
  return 0;
#endif
}

#if defined(__AMX_TILE__) && defined(__AMX_INT8__) && defined(__AMX_BF16__) && defined(__linux__)
#define HAS_TILES
#include <sys/syscall.h>
#include <unistd.h>

// Linux gives tile registers to processes that ask for them.
static int tiles_ready(void) {
  struct { uint8_t palette, start, rest[14]; uint16_t bytes[16]; uint8_t rows[16]; } config = {1};
  for (int i = 0; i < 8; i++) config.bytes[i] = 64, config.rows[i] = 16;
  if (syscall(SYS_arch_prctl, 0x1023, 18)) return 0;
  _tile_loadconfig(&config);
  return 1;
}

#define TILE_STEPS(multiply)                                                       \
  for (long s = 0; s < steps; s++) {                                               \
    multiply(0, 4, 6); multiply(1, 4, 7); multiply(2, 5, 6); multiply(3, 5, 7);    \
  }                                                                                \
  _tile_release()
#endif

double peak_bf16(long steps) {
#if defined(HAS_TILES)
  if (tiles_ready()) {
    TILE_STEPS(_tile_dpbf16ps);
    return 2.0 * steps * 4 * 16 * 16 * 32;
  }
#endif
#if defined(__AVX512BF16__)
  __m512 sums[SUMS];
  __m512i x = _mm512_setzero_si512(), y = x;
  EACH_SUM sums[i] = _mm512_setzero_ps();
  for (long s = 0; s < steps; s++) {
    HOLD(x);
    HOLD(y);
    EACH_SUM {
      sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)x, (__m512bh)y);
      HOLD(sums[i]);
    }
  }
  EACH_SUM sink = sums[i][0];
  return 2.0 * steps * SUMS * 32;
#else
  return 0;
#endif
}

double peak_int8(long steps) {
#if defined(HAS_TILES)
  if (tiles_ready()) {
    TILE_STEPS(_tile_dpbusd);
    return 2.0 * steps * 4 * 16 * 16 * 64;
  }
#endif
#if defined(__AVX512VNNI__)
  __m512i sums[SUMS], x = _mm512_setzero_si512(), y = x;
  EACH_SUM sums[i] = x;
  for (long s = 0; s < steps; s++) {
    HOLD(x);
    HOLD(y);
    EACH_SUM {
      sums[i] = _mm512_dpbusd_epi32(sums[i], x, y);
      HOLD(sums[i]);
    }
  }
  EACH_SUM sink = (float)_mm512_reduce_add_epi32(sums[i]);
  return 2.0 * steps * SUMS * 64;
#elif defined(__AVXVNNI__)
  __m256i sums[SUMS], x = _mm256_setzero_si256(), y = x;
  EACH_SUM sums[i] = x;
  for (long s = 0; s < steps; s++) {
    HOLD(x);
    HOLD(y);
    EACH_SUM {
      sums[i] = _mm256_dpbusd_avx_epi32(sums[i], x, y);
      HOLD(sums[i]);
    }
  }
  EACH_SUM sink = (float)_mm256_extract_epi32(sums[i], 0);
  return 2.0 * steps * SUMS * 32;
#else
  return 0;
#endif
}

// Reads `bytes`, a multiple of 4096, once: four streams side by side, each asked for ahead. Fewer
// leave the memory idle; more contend for the sets of the caches where they lie a power of two apart.
void read_stream(const char *memory, long bytes) {
  floats sums[4] = {0};
  const floats *first = (const floats *)memory;
  const long part = bytes / BYTES / 4;
  for (long n = 0; n < part; n++) {
    _Pragma("GCC unroll 4") for (int i = 0; i < 4; i++) {
      __builtin_prefetch(first + i * part + n + 2048 / BYTES);
      sums[i] += first[i * part + n];
    }
  }
  for (int i = 0; i < 4; i++) sink = sums[i][0];
}
