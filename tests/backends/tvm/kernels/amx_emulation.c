// The AMX tile registers in plain C, so that kernels written for them run on any machine.
// Semantics from Intel's Software Developer's Manual, volume 2; one set of tiles per thread.

#include <stdint.h>
#include <string.h>

#define ROWS 16
#define ROW_BYTES 64

static _Thread_local uint8_t configuration[64];
static _Thread_local uint8_t tiles[8][ROWS][ROW_BYTES];

static int rows_of(int tile) { return configuration[48 + tile]; }

static int bytes_of(int tile) {
  return configuration[16 + 2 * tile] | configuration[17 + 2 * tile] << 8;
}

static float bfloat16(uint16_t stored) {
  uint32_t bits = (uint32_t)stored << 16;
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

// Anything a kernel may not do sets this; tests assert that it stays 0.
static int faults = 0;
int emulated_faults(void) { return faults; }

static void check(int condition) { faults += !condition; }

int emulated_ldtilecfg(const uint8_t *words) {
  memcpy(configuration, words, 64);
  memset(tiles, 0, sizeof tiles);
  check(words[0] == 1);
  for (int tile = 0; tile < 8; tile++) check(rows_of(tile) <= ROWS && bytes_of(tile) <= ROW_BYTES);
  return 0;
}

int emulated_tilerelease(void) {
  memset(configuration, 0, sizeof configuration);
  return 0;
}

int emulated_tilezero(uint8_t tile) {
  check(configuration[0] == 1);
  memset(tiles[tile], 0, sizeof tiles[tile]);
  return 0;
}

int emulated_tileloadd64(uint8_t tile, const uint8_t *memory, int64_t stride) {
  check(configuration[0] == 1);
  memset(tiles[tile], 0, sizeof tiles[tile]);
  for (int row = 0; row < rows_of(tile); row++)
    memcpy(tiles[tile][row], memory + row * stride, bytes_of(tile));
  return 0;
}

int emulated_tilestored64(uint8_t tile, uint8_t *memory, int64_t stride) {
  check(configuration[0] == 1);
  for (int row = 0; row < rows_of(tile); row++)
    memcpy(memory + row * stride, tiles[tile][row], bytes_of(tile));
  return 0;
}

static void check_shapes(int sums, int pixels, int weights) {
  check(sums != pixels && sums != weights && pixels != weights);
  check(rows_of(sums) == rows_of(pixels));
  check(bytes_of(sums) == bytes_of(weights));
  check(bytes_of(pixels) == 4 * rows_of(weights));
}

int emulated_tdpbusd(uint8_t sums, uint8_t pixels, uint8_t weights) {
  check_shapes(sums, pixels, weights);
  for (int row = 0; row < rows_of(sums); row++)
    for (int step = 0; step < rows_of(weights); step++)
      for (int column = 0; column < bytes_of(sums) / 4; column++) {
        int32_t total;
        memcpy(&total, &tiles[sums][row][4 * column], 4);
        for (int byte = 0; byte < 4; byte++)
          total += (int32_t)tiles[pixels][row][4 * step + byte] *
                   (int8_t)tiles[weights][step][4 * column + byte];
        memcpy(&tiles[sums][row][4 * column], &total, 4);
      }
  return 0;
}

int emulated_tdpbf16ps(uint8_t sums, uint8_t pixels, uint8_t weights) {
  check_shapes(sums, pixels, weights);
  for (int row = 0; row < rows_of(sums); row++)
    for (int step = 0; step < rows_of(weights); step++)
      for (int column = 0; column < bytes_of(sums) / 4; column++) {
        float total;
        uint16_t left[2], right[2];
        memcpy(&total, &tiles[sums][row][4 * column], 4);
        memcpy(left, &tiles[pixels][row][4 * step], 4);
        memcpy(right, &tiles[weights][step][4 * column], 4);
        total += bfloat16(left[0]) * bfloat16(right[0]);
        total += bfloat16(left[1]) * bfloat16(right[1]);
        memcpy(&tiles[sums][row][4 * column], &total, 4);
      }
  return 0;
}
