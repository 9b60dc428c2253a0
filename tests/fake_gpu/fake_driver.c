/* A CUDA driver without a GPU: device memory is this machine's, kernels are functions of a library
   that was compiled for the CPU, and what a stream captures is a list that is played back. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, NOT_FOUND = 500 };
enum { MOST_ARGUMENTS = 32, MOST_RECORDED = 4096, MOST_KERNELS = 1024 };

typedef struct { char name[200]; int count; } Kernel;
typedef struct { int kind; Kernel *kernel; uint64_t values[MOST_ARGUMENTS]; size_t size; } Record;
typedef struct { int length; Record records[MOST_RECORDED]; } Graph;

static struct { int devices, major, minor, version; size_t free; } machine = {1, 8, 0, 12040, 1 << 30};
static Kernel known[MOST_KERNELS];
static int known_count, launches, graph_launches, live_allocations, loads, loads_live, streams_live, events_live, waits;
static void *library;
static Graph *capturing;

void fake_machine(int devices, int major, int minor, int version, size_t free_bytes) {
  machine.devices = devices;
  machine.major = major;
  machine.minor = minor;
  machine.version = version;
  machine.free = free_bytes;
}
void fake_library(const char *path) {
  library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  known_count = launches = graph_launches = loads = 0;
}
void fake_kernel(const char *name, int arguments) {
  snprintf(known[known_count].name, sizeof known->name, "%s", name);
  known[known_count++].count = arguments;
}
int fake_launches(void) { return launches; }
int fake_graph_launches(void) { return graph_launches; }
int fake_live_allocations(void) { return live_allocations; }
int fake_loads(void) { return loads; }
int fake_live_modules(void) { return loads_live; }
int fake_live_streams(void) { return streams_live; }
int fake_live_events(void) { return events_live; }
int fake_waits(void) { return waits; }

static void play(const Record *record) {
  if (record->kind == 1) memmove((void *)record->values[0], (void *)record->values[1], record->size);
  if (record->kind == 2) memset((void *)record->values[0], 0, record->size);
  if (record->kind != 0) return;
  char symbol[220];
  void *places[MOST_ARGUMENTS];
  snprintf(symbol, sizeof symbol, "run_%s", record->kernel->name);
  for (int i = 0; i < record->kernel->count; ++i) places[i] = (void *)&record->values[i];
  ((void (*)(void **))dlsym(library, symbol))(places);
  ++launches;
}
static int put(const Record *record) {
  if (!capturing) { play(record); return 0; }
  if (capturing->length == MOST_RECORDED) return INVALID_VALUE;
  capturing->records[capturing->length++] = *record;
  return 0;
}

/* A process that was not set up by `fake_library` finds its kernels in a file: the path of the
   library, then a name and a number of arguments on each line. */
static void read_kernels(const char *path) {
  char line[400], name[200];
  int count;
  FILE *file = path ? fopen(path, "r") : NULL;
  if (!file || library) return;
  if (fgets(line, sizeof line, file)) {
    line[strcspn(line, "\n")] = 0;
    fake_library(line);
  }
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "%199s %d", name, &count) == 2) fake_kernel(name, count);
  fclose(file);
}
int cuInit(unsigned flags) {
  read_kernels(getenv("FAKE_CUDA_KERNELS"));
  return machine.devices || flags ? 0 : NO_DEVICE;
}
int cuDriverGetVersion(int *version) { *version = machine.version; return 0; }
int cuDeviceGetCount(int *count) { *count = machine.devices; return 0; }
int cuDeviceGet(int *device, int index) { *device = index + 7; return 0; }
int cuDeviceGetName(char *name, int size, int device) {
  snprintf(name, size, "Fake GPU %d", device - 7);
  return 0;
}
int cuDeviceGetPCIBusId(char *text, int size, int device) {
  snprintf(text, size, "0000:%02X:00.0", device);
  return 0;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  (void)device;
  *value = attribute == 75 ? machine.major : machine.minor;
  return 0;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = (void *)(intptr_t)(device + 1); return 0; }
int cuCtxSetCurrent(void *context) { return context ? 0 : INVALID_VALUE; }
int cuMemGetInfo_v2(size_t *available, size_t *total) { *available = *total = machine.free; return 0; }
int cuMemAlloc_v2(uint64_t *address, size_t size) {
  if (size > machine.free) return OUT_OF_MEMORY;
  void *memory = aligned_alloc(256, (size + 255) / 256 * 256);
  memset(memory, 0xA5, size);
  *address = (uint64_t)memory;
  ++live_allocations;
  return 0;
}
int cuMemFree_v2(uint64_t address) { free((void *)address); --live_allocations; return 0; }
int cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t size, void *stream) {
  (void)stream;
  memcpy((void *)to, from, size);
  return 0;
}
int cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t size, void *stream) {
  (void)stream;
  memcpy(to, (void *)from, size);
  return 0;
}
int cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t size, void *stream) {
  (void)stream;
  Record record = {.kind = 1, .values = {to, from}, .size = size};
  return put(&record);
}
int cuMemsetD8Async(uint64_t to, unsigned char value, size_t size, void *stream) {
  (void)stream;
  Record record = {.kind = 2, .values = {to}, .size = size};
  return value ? INVALID_VALUE : put(&record);
}
int cuModuleLoadData(void **module, const void *image) {
  ++loads;
  ++loads_live;
  *module = (void *)image;
  return memcmp(image, "\177ELF", 4) && memcmp(image, "//", 2) ? INVALID_VALUE : 0;
}
int cuModuleUnload(void *module) { --loads_live; return module ? 0 : INVALID_VALUE; }
int cuFuncGetParamInfo(void *function, size_t index, size_t *offset, size_t *size) {
  const Kernel *kernel = function;
  *offset = 8 * index;
  *size = 8;
  return index < (size_t)kernel->count ? 0 : INVALID_VALUE;
}
int cuModuleGetFunction(void **function, void *module, const char *name) {
  (void)module;
  for (int i = 0; i < known_count; ++i)
    if (!strcmp(known[i].name, name)) { *function = &known[i]; return 0; }
  return NOT_FOUND;
}
int cuFuncSetAttribute(void *function, int attribute, int value) { return function && attribute == 8 && value ? 0 : INVALID_VALUE; }
int cuStreamCreate(void **stream, unsigned flags) {
  *stream = (void *)(intptr_t)(flags + 1 + 16 * streams_live++);
  return 0;
}
int cuStreamDestroy_v2(void *stream) { --streams_live; return stream ? 0 : INVALID_VALUE; }
int cuEventCreate(void **event, unsigned flags) {
  *event = (void *)(intptr_t)(flags + 100 + events_live++);
  return 0;
}
int cuEventRecord(void *event, void *stream) { (void)stream; return event ? 0 : INVALID_VALUE; }
int cuStreamWaitEvent(void *stream, void *event, unsigned flags) {
  (void)stream;
  ++waits;
  return event && !flags ? 0 : INVALID_VALUE;
}
int cuEventSynchronize(void *event) { return event ? 0 : INVALID_VALUE; }
int cuEventDestroy_v2(void *event) { --events_live; return event ? 0 : INVALID_VALUE; }
int cuStreamSynchronize(void *stream) { (void)stream; return 0; }
int cuStreamBeginCapture_v2(void *stream, int mode) {
  (void)stream; (void)mode;
  capturing = calloc(1, sizeof(Graph));
  return 0;
}
int cuStreamEndCapture(void *stream, void **graph) {
  (void)stream;
  *graph = capturing;
  capturing = NULL;
  return 0;
}
int cuGraphInstantiateWithFlags(void **started, void *graph, unsigned long long flags) {
  *started = malloc(sizeof(Graph));
  memcpy(*started, graph, sizeof(Graph));
  return flags ? INVALID_VALUE : 0;
}
int cuGraphDestroy(void *graph) { free(graph); return 0; }
int cuGraphExecDestroy(void *graph) { free(graph); return 0; }
int cuGraphLaunch(void *graph, void *stream) {
  (void)stream;
  const Graph *list = graph;
  for (int i = 0; i < list->length; ++i) play(&list->records[i]);
  ++graph_launches;
  return 0;
}
int cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                   unsigned bz, unsigned shared, void *stream, void **parameters, void **extra) {
  (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz; (void)shared; (void)stream; (void)extra;
  Record record = {.kind = 0, .kernel = function};
  for (int i = 0; i < record.kernel->count; ++i) record.values[i] = *(uint64_t *)parameters[i];
  return put(&record);
}
int cuGetErrorString(int code, const char **text) {
  *text = code == NO_DEVICE ? "no CUDA-capable device is detected" : "fake error";
  return 0;
}
