"""Cache misses of generated kernels, counted by cachegrind, against predicted traffic.

    python -m benchmarks.fidelity.cache_misses

Each kernel is the very function that an artefact for x86-64-v3 holds, linked with a small program
that calls it; valgrind simulates the first-level and the last-level cache of the target. What a
second call adds is the steady state: the model consists of this kernel alone. Needs `valgrind`
and a C compiler; the counts are exact and the same everywhere.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
import tvm
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from gcompile import ir
from gcompile.backends.tvm.llvm_target import llvm_target, vector_bits
from gcompile.backends.tvm.lowering.graph import lower_model
from gcompile.compiler.stages import REGIONS
from gcompile.energy import Roofline
from gcompile.energy.job import job_of
from gcompile.energy.kernel import blocks_of
from gcompile.energy.tiling import choose_tile
from gcompile.energy.traffic import traffic
from gcompile.passes import PassContext
from gcompile.targets import Target, load_target

TARGET = "generic-x86-avx2"
LINE_BYTES = 64
CALLS = 2

_DRIVER = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
typedef struct {{ int32_t type, id; }} Device;
typedef struct {{ uint8_t code, bits; uint16_t lanes; }} DType;
typedef struct {{ void *data; Device device; int32_t ndim; DType dtype;
                  int64_t *shape, *strides; uint64_t byte_offset; }} Tensor;
typedef struct {{ int32_t type_index; uint32_t pad; Tensor *tensor; }} Any;
extern int __tvm_ffi_kernel(void *, Any *, int32_t, Any *);
void TVMFFIErrorSetRaisedFromCStrParts(const char *k, const char **p, int n) {{ abort(); }}
typedef void *Alloc(int32_t, int32_t, uint64_t, int32_t, int32_t);
typedef int Free(int32_t, int32_t, void *);
__attribute__((weak)) Alloc *__TVMBackendAllocWorkspace;
__attribute__((weak)) Free *__TVMBackendFreeWorkspace;
static char workspace[1 << 24] __attribute__((aligned(4096)));
static size_t taken;
static void *take(int32_t type, int32_t id, uint64_t size, int32_t code, int32_t bits) {{
  char *found = workspace + taken;
  taken += (size + 4095) / 4096 * 4096;
  if (taken > sizeof workspace) abort();
  return found;
}}
static int give_back(int32_t type, int32_t id, void *memory) {{
  taken = (char *)memory - workspace;
  return 0;
}}
{shapes}
int main(int argc, char **argv) {{
  __TVMBackendAllocWorkspace = take;
  __TVMBackendFreeWorkspace = give_back;
  Any result = {{0}}, arguments[{count}] = {{{{0}}}};
  Tensor tensors[{count}];
  {tensors}
  int calls = atoi(argv[1]), failed = 0;
  for (int i = 0; i < calls; i++) failed |= __tvm_ffi_kernel(0, arguments, {count}, &result);
  return failed;
}}
"""

_TENSOR = """
  {{ void *data; size_t size = {size};
     if (posix_memalign(&data, 4096, size + 4096)) return 2;
     memset(data, 0, size + 4096);
     Tensor t = {{data, {{1, 0}}, {ndim}, {{{code}, {bits}, 1}}, shape{index}, 0, 0}};
     tensors[{index}] = t;
     arguments[{index}].type_index = 7; arguments[{index}].tensor = &tensors[{index}]; }}
"""

_CODES = {"float32": (2, 32), "int8": (0, 8), "uint8": (1, 8), "int32": (0, 32)}


@dataclass(frozen=True)
class Misses:
    """Lines that one call fetches into the first level, and into the last."""

    first: float
    last: float


@dataclass(frozen=True)
class Row:
    """One kernel, predicted and counted."""

    name: str
    predicted: Misses
    counted: Misses
    compulsory: float

    def error(self, level: str) -> float | None:
        """Relative error of a level; None where everything stays and there is nothing to miss.

        Fewer than 2 % of the lines that the kernel touches counts as nothing.
        """
        predicted = float(getattr(self.predicted, level))
        counted = float(getattr(self.counted, level))
        if max(predicted, counted) < 0.02 * self.compulsory:
            return None
        return abs(predicted - counted) / max(counted, 0.02 * self.compulsory)


def kernels() -> dict[str, onnx.ModelProto]:
    """The ten kernels: convolutions, products and depthwise convolutions."""
    return {
        "conv 3x3 56x56 64-64": _conv(56, 64, 64, 3),
        "conv 3x3 14x14 256-256": _conv(14, 256, 256, 3),
        "conv 3x3 7x7 512-1024": _conv(7, 512, 1024, 3),
        "conv 1x1 56x56 64-256": _conv(56, 64, 256, 1),
        "conv 1x1 14x14 1024-256": _conv(14, 1024, 256, 1),
        "conv 7x7/2 224x224 3-64": _conv(224, 3, 64, 7, 2),
        "product 64x1024x1024": _product(64, 1024, 1024),
        "product 1x2048x2560": _product(1, 2048, 2560),
        "depthwise 3x3 112x112 96": _conv(112, 96, 96, 3, 1, 96),
        "depthwise 5x5 28x28 240": _conv(28, 240, 240, 5, 1, 240),
    }


def rows() -> list[Row]:
    """Predict and count every kernel."""
    target = _two_levels(load_target(TARGET))
    return [measure(name, model, target) for name, model in kernels().items()]


def measure(name: str, proto: onnx.ModelProto, target: Target) -> Row:
    """Predict and count one kernel."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(proto, path)
        model = ir.load(path)
        REGIONS.apply(model, PassContext(target=target, energy=Roofline()))
        program = _program(model, target, Path(folder))
        counted = _counted(program, target)
    region = next(r for r in ir.regions(model.graph) if r.anchor is not None)
    job = job_of(region)
    assert job is not None
    tile = region.tile or choose_tile(job, target, 1, job.alone_bytes)
    sent = traffic(job, tile, blocks_of(job, tile, target), target, job.alone_bytes)
    first, last = (sent[memory.name] / LINE_BYTES for memory in target.memories[1:])
    return Row(name, Misses(first, last), counted, job.alone_bytes / LINE_BYTES)


def report(found: list[Row]) -> str:
    """Lay the kernels out as a table, and the median errors below it."""
    lines = [f"{'kernel':28}{'L1 counted':>12}{'predicted':>12}{'error':>8}"
             f"{'LL counted':>12}{'predicted':>12}{'error':>8}"]  # fmt: skip
    for row in found:
        cells = ""
        for level in ("first", "last"):
            error = row.error(level)
            shown = "stays" if error is None else f"{error:.0%}"
            cells += f"{getattr(row.counted, level):12,.0f}{getattr(row.predicted, level):12,.0f}"
            cells += f"{shown:>8}"
        lines.append(f"{row.name:28}{cells}")
    for level, label in (("first", "L1"), ("last", "last level")):
        errors = [e for row in found if (e := row.error(level)) is not None]
        lines.append(f"median error of {label} misses: {statistics.median(errors):.1%}")
    return "\n".join(lines)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    if missing := missing_tools():
        raise SystemExit(f"{missing} is not installed; this benchmark counts with it.")
    print(report(rows()))


def missing_tools() -> str:
    """Name what has to be installed first; empty when nothing is missing."""
    return " and ".join(tool for tool in ("valgrind", "cc") if shutil.which(tool) is None)


def _two_levels(target: Target) -> Target:
    """Cachegrind simulates a first and a last level."""
    first, *_, last, dram = target.memories
    return replace(target, memories=(first, replace(last, per_core=False), dram))


def _conv(
    size: int, inside: int, outside: int, kernel: int, stride: int = 1, groups: int = 1
) -> onnx.ModelProto:
    weight = numpy_helper.from_array(_zeros(outside, inside // groups, kernel, kernel), "w")
    pad = kernel // 2
    high = (size + 2 * pad - kernel) // stride + 1
    node = helper.make_node(
        "Conv", ["x", "w"], ["y"], pads=[pad] * 4, strides=[stride] * 2, group=groups, name="k"
    )
    return _model(node, weight, (1, inside, size, size), (1, outside, high, high))


def _product(m: int, k: int, n: int) -> onnx.ModelProto:
    weight = numpy_helper.from_array(_zeros(k, n), "w")
    return _model(helper.make_node("MatMul", ["x", "w"], ["y"], name="k"), weight, (m, k), (m, n))


def _program(model: ir.Model, target: Target, folder: Path) -> Path:
    """Compile the kernel of the model's product, and link it with a program that calls it."""
    own_caches = (memory.size_bytes for memory in target.memories if memory.per_core)
    lowered = lower_model(model, vector_bits(target), max(own_caches, default=0.0))
    function = next(
        function
        for variable, function in lowered.module.functions_items()
        if variable.name_hint.startswith(("product", "depthwise"))
    )
    module = tvm.IRModule({"kernel": function.with_attr("global_symbol", "kernel")})
    compiled = tvm.compile(module, target=llvm_target(target, 1))
    compiled.mod.write_to_file(str(folder / "kernel.o"), "o")
    buffers = list(function.params)
    (folder / "driver.c").write_text(_driver(buffers))
    program = folder / "program"
    subprocess.run(
        ["cc", "-O1", "-o", program, folder / "driver.c", folder / "kernel.o", "-lm"], check=True
    )
    return program


def _driver(buffers: list[tvm.tirx.Buffer]) -> str:
    shapes, tensors = [], []
    for index, buffer in enumerate(buffers):
        shape = [int(extent) for extent in buffer.shape]
        code, bits = _CODES[str(buffer.dtype)]
        size = bits // 8
        for extent in shape:
            size *= extent
        values = ", ".join(map(str, shape))
        shapes.append(f"static int64_t shape{index}[] = {{{values}}};")
        tensors.append(_TENSOR.format(size=size, ndim=len(shape), code=code, bits=bits,
                                      index=index))  # fmt: skip
    return _DRIVER.format(shapes="\n".join(shapes), tensors="".join(tensors), count=len(buffers))


def _counted(program: Path, target: Target) -> Misses:
    once, often = (_run(program, calls, target) for calls in (1, CALLS))
    first, last = ((often[level] - once[level]) / (CALLS - 1) for level in ("first", "last"))
    return Misses(first, last)


def _run(program: Path, calls: int, target: Target) -> Mapping[str, float]:
    """Count the misses of the kernel's functions over some calls."""
    first, last = target.memories[:2]
    out = program.with_name(f"cachegrind.{calls}")
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=yes", "-q",
               f"--D1={int(first.size_bytes)},8,{LINE_BYTES}",
               f"--LL={int(last.size_bytes)},16,{LINE_BYTES}",
               f"--cachegrind-out-file={out}", str(program), str(calls)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    lines = out.read_text().splitlines()
    events = next(line for line in lines if line.startswith("events:")).split()[1:]
    sums = dict.fromkeys(events, 0)
    inside = False
    for line in lines:
        if line.startswith("fn="):
            inside = "kernel" in line
        elif inside and line[:1].isdigit():
            for event, count in zip(events, line.split()[1:], strict=True):
                sums[event] += int(count)
    return {"first": sums["D1mr"] + sums["D1mw"], "last": sums["DLmr"] + sums["DLmw"]}


def _model(
    node: onnx.NodeProto, weight: onnx.TensorProto, x: tuple[int, ...], y: tuple[int, ...]
) -> onnx.ModelProto:
    graph = helper.make_graph(
        [node],
        "kernel",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, y)],
        [weight],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _zeros(*shape: int) -> NDArray[np.float32]:
    return np.zeros(shape, np.float32)


if __name__ == "__main__":
    main()
