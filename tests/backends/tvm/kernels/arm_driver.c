// Calls a kernel as TVM's runtime would, where there is no runtime: its arguments are files.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <tvm/ffi/c_api.h>

typedef struct {
  const char *file;
  DLDataType type;
  int dimensions;
  int64_t shape[4];
} Argument;

typedef struct {
  TVMFFISafeCallType call;
  int count;  // The last argument is written.
  Argument arguments[4];
} Kernel;

#include "kernels.h"

void *TVMBackendAllocWorkspace(int device, int id, uint64_t size, int code, int bits) {
  return aligned_alloc(64, (size + 63) / 64 * 64);
}

int TVMBackendFreeWorkspace(int device, int id, void *memory) {
  free(memory);
  return 0;
}

// Code that is not linked to the runtime calls these, which loading it would set.
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = TVMBackendAllocWorkspace;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = TVMBackendFreeWorkspace;

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *message) {
  fprintf(stderr, "%s: %s\n", kind, message);
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
  for (int32_t i = 0; i < count; ++i) fputs(parts[i] ? parts[i] : "", stderr);
}

static int run(Kernel *kernel) {
  DLTensor tensors[4];
  TVMFFIAny values[4];
  size_t bytes = 0;
  for (int i = 0; i < kernel->count; ++i) {
    Argument *argument = &kernel->arguments[i];
    bytes = argument->type.bits / 8;
    for (int d = 0; d < argument->dimensions; ++d) bytes *= argument->shape[d];
    void *data = aligned_alloc(64, (bytes + 63) / 64 * 64);
    if (i + 1 < kernel->count) {
      FILE *file = fopen(argument->file, "rb");
      if (!file || fread(data, 1, bytes, file) != bytes) return 2;
      fclose(file);
    }
    tensors[i] = (DLTensor){data, {kDLCPU, 0}, argument->dimensions, argument->type,
                            argument->shape, 0, 0};
    memset(&values[i], 0, sizeof values[i]);
    values[i].type_index = kTVMFFIDLTensorPtr;
    values[i].v_ptr = &tensors[i];
  }
  TVMFFIAny result = {0};
  if (kernel->call(0, values, kernel->count, &result)) return 3;
  FILE *file = fopen(kernel->arguments[kernel->count - 1].file, "wb");
  if (!file || fwrite(tensors[kernel->count - 1].data, 1, bytes, file) != bytes) return 4;
  return fclose(file);
}

int main(void) {
  for (int i = 0; i < KERNELS; ++i) {
    int failed = run(&kernels[i]);
    if (failed) return failed;
  }
  return 0;
}
