"""Run products on an emulated 64-bit ARM processor, where qemu and a cross-compiler are here."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import tvm
import tvm_ffi
from tvm.tirx import PrimFunc

from gcompile.backends.tvm.kernels.spec import Output
from tests.backends.tvm.kernels.arm import FEATURES, arm_target
from tests.backends.tvm.kernels.compiling import Array

_TYPE_CODES = {"i": "kDLInt", "u": "kDLUInt", "f": "kDLFloat"}


@dataclass(frozen=True)
class Program:
    """A kernel's function, the tensors it reads and the one it writes."""

    function: PrimFunc
    inputs: Sequence[Array]
    output: Output


def run_on_arm(programs: Mapping[str, Program], folder: Path) -> dict[str, Array]:
    """Run one program after the other in one process; the outputs, by the programs' names.

    Tests are skipped where nothing emulates the processor, or nothing links a program for it.
    """
    emulator = shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("there is no qemu-aarch64 to run code for 64-bit ARM")
    compiler = _cross_compiler()
    arguments = {name: _arguments(program) for name, program in programs.items()}
    for name, arrays in arguments.items():
        for index, array in enumerate(arrays):
            array.tofile(folder / f"{name}.{index}")
    (folder / "kernels.h").write_text(_table(arguments), encoding="utf-8")
    features = sorted({name for unit in FEATURES.values() for name in unit})
    functions = {name: program.function for name, program in programs.items()}
    compiled = tvm.tirx.build(tvm.IRModule(functions), target=arm_target(features))
    compiled.write_to_file(str(folder / "kernels.o"))
    headers = (tvm_ffi.libinfo.find_include_path(), tvm_ffi.libinfo.find_dlpack_include_path())
    sources = (str(Path(__file__).with_name("arm_driver.c")), "kernels.o", "-lm")
    included = [f"-I{path}" for path in (folder, *headers)]
    command = [*compiler, "-static", *included, *sources, "-o", "program"]
    subprocess.run(command, check=True, cwd=folder)
    subprocess.run([emulator, "-cpu", "max", "program"], check=True, cwd=folder)
    return {
        name: np.fromfile(folder / f"{name}.{len(arrays) - 1}", arrays[-1].dtype).reshape(
            arrays[-1].shape
        )
        for name, arrays in arguments.items()
    }


def _cross_compiler() -> tuple[str, ...]:
    if shutil.which("aarch64-linux-gnu-gcc"):
        return ("aarch64-linux-gnu-gcc",)
    target = ("cc", "-target", "aarch64-linux-musl")
    if shutil.which("zig"):
        return ("zig", *target)
    if importlib.util.find_spec("ziglang"):
        return (sys.executable, "-m", "ziglang", *target)
    pytest.skip("nothing here compiles C for 64-bit ARM")


def _arguments(program: Program) -> list[Array]:
    image = program.output.image
    return [*program.inputs, np.full(image.shape, 77, image.storage_dtype)]


def _table(arguments: Mapping[str, Sequence[Array]]) -> str:
    """What the driver calls, in C."""
    lines = [f"int __tvm_ffi_{name}(void *, const TVMFFIAny *, int32_t, TVMFFIAny *);"
             for name in arguments]  # fmt: skip
    lines += [f"#define KERNELS {len(arguments)}", "static Kernel kernels[] = {"]
    for name, arrays in arguments.items():
        rows = ", ".join(_argument(f"{name}.{i}", array) for i, array in enumerate(arrays))
        lines.append(f"{{__tvm_ffi_{name}, {len(arrays)}, {{{rows}}}}},")
    return "\n".join([*lines, "};"])


def _argument(file: str, array: Array) -> str:
    dtype = f"{{{_TYPE_CODES[array.dtype.kind]}, {8 * array.itemsize}, 1}}"
    return f'{{"{file}", {dtype}, {array.ndim}, {{{", ".join(map(str, array.shape))}}}}}'
