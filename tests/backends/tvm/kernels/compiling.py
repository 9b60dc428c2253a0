"""Compile one generated function for this machine, or for a machine to look at its assembly."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import tvm
from tvm.tirx import PrimFunc

from gcompile.backends.tvm.kernels.spec import Image, Output

Array = npt.NDArray[Any]


def cpu_flags() -> frozenset[str]:
    """The instruction sets of this machine, as Linux names them; empty elsewhere."""
    information = Path("/proc/cpuinfo")
    if not information.exists():
        return frozenset()
    lines = information.read_text().splitlines()
    flags = next((line for line in lines if line.startswith("flags")), "")
    return frozenset(flags.partition(":")[2].split())


def target(mcpu: str | None = None, attributes: tuple[str, ...] = ()) -> tvm.target.Target:
    """An LLVM target; by default the widest that this machine runs."""
    options: dict[str, object] = {"kind": "llvm", "num-cores": 2}
    if platform.machine() == "x86_64":
        options["mcpu"] = mcpu or _level()
        options["mattr"] = ["-prefer-256-bit", *attributes]
    return tvm.target.Target(options)


def compile_function(
    function: PrimFunc, mcpu: str | None = None, attributes: tuple[str, ...] = ()
) -> tvm.runtime.Executable:
    """Compile a single function under its own name."""
    name = str(function.attrs["global_symbol"])
    module = tvm.IRModule({name: function})
    return tvm.compile(module, target=target(mcpu, attributes))


def run(
    function: PrimFunc,
    inputs: list[Array],
    output: Output,
    mcpu: str | None = None,
    attributes: tuple[str, ...] = (),
) -> Array:
    """Compile and call; the output arrives as it is stored, halo included.

    The output is first filled with a pattern, so that an element nobody writes is noticed.
    """
    executable = compile_function(function, mcpu, attributes)
    return call(executable[str(function.attrs["global_symbol"])], inputs, output)


def call(function: tvm.runtime.PackedFunc, inputs: list[Array], output: Output) -> Array:
    """Call what is compiled already; see `run`."""
    shape = output.image.declared or output.image.shape
    stored = np.full(shape, 77, output.image.storage_dtype)
    arguments = [tvm.runtime.tensor(np.ascontiguousarray(array)) for array in (*inputs, stored)]
    function(*arguments)
    return np.asarray(arguments[-1].numpy()).reshape(output.image.shape)


def inside(image: Image, stored: Array) -> Array:
    """The image without its halo; bfloat16 bits become numbers."""
    top, left, _, _ = image.halo
    kept = stored[:, top : top + image.height, left : left + image.width]
    return kept.view(ml_dtypes.bfloat16) if image.dtype == "bfloat16" else kept


def with_halo(image: Image, values: Array) -> Array:
    """Store values of the image's logical shape, surrounded by its halo."""
    top, left, bottom, right = image.halo
    borders = ((0, 0), (top, bottom), (left, right), (0, 0))
    dtype = ml_dtypes.bfloat16 if image.dtype == "bfloat16" else np.dtype(image.dtype)
    fill = np.asarray(image.fill, np.float64).astype(dtype)
    padded = np.pad(values.astype(dtype), borders, constant_values=fill)
    return np.ascontiguousarray(padded).view(image.storage_dtype)


def _level() -> str:
    flags = cpu_flags()
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= flags:
        return "x86-64-v4"
    return "x86-64-v3" if {"avx2", "fma", "f16c"} <= flags else "x86-64-v2"
