/* NVML without a GPU: one card whose state is a file, so that all processes see the same card. It
   draws a constant power, and its energy counter runs with the clock. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { UNINITIALIZED = 1, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, INVALID = 2 };

typedef struct {
  double power_w;
  unsigned limit_mw, default_mw, lowest_mw, highest_mw, clock_mhz;
  int has_counter, is_administrator;
} Card;

static Card *card;

static int open_card(void) {
  const char *path = getenv("FAKE_NVML_CARD");
  int file = path ? open(path, O_RDWR) : -1;
  if (file < 0) return UNINITIALIZED;
  card = mmap(NULL, sizeof(Card), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  return card == MAP_FAILED ? UNINITIALIZED : 0;
}
int nvmlInit_v2(void) { return open_card(); }
const char *nvmlErrorString(int code) { return code == UNINITIALIZED ? "Uninitialized" : "fake error"; }
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, void **device) {
  *device = card;
  return strcmp(bus, "0000:07:00.0") ? NOT_FOUND : 0;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  *millijoules = (now.tv_sec + 1e-9 * now.tv_nsec) * 1e3 * card->power_w;
  return device && card->has_counter ? 0 : NOT_SUPPORTED;
}
int nvmlDeviceGetClockInfo(void *device, int kind, unsigned *megahertz) {
  *megahertz = card->clock_mhz;
  return device && kind == 1 ? 0 : INVALID;
}
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *limit) {
  *limit = card->limit_mw;
  return device ? 0 : INVALID;
}
int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned *limit) {
  *limit = card->default_mw;
  return device ? 0 : INVALID;
}
int nvmlDeviceGetPowerManagementLimitConstraints(void *device, unsigned *low, unsigned *high) {
  *low = card->lowest_mw;
  *high = card->highest_mw;
  return device ? 0 : INVALID;
}
int nvmlDeviceSetPowerManagementLimit(void *device, unsigned limit) {
  if (!device || limit < card->lowest_mw || limit > card->highest_mw) return INVALID;
  if (!card->is_administrator) return NO_PERMISSION;
  card->limit_mw = limit;
  return 0;
}
