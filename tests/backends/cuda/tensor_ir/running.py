"""Run the kernels of a tensor function by their CPU forms."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import te

from gcompile.backends.cuda.host_form import host_forms
from gcompile.backends.cuda.tensor_ir.kernels import TensorKernel, kernels_of
from gcompile.backends.cuda.tensor_ir.nests import static_shape

Array = NDArray[Any]


def placeholder(shape: tuple[int, ...], name: str = "x", dtype: str = "float32") -> te.Tensor:
    """An input of a function."""
    return te.placeholder(shape, dtype, name=name)


def kernels(inputs: list[te.Tensor], output: te.Tensor) -> list[TensorKernel]:
    """The kernels of a function."""
    return kernels_of(te.create_prim_func([*inputs, output]), "test")


def run(inputs: list[te.Tensor], output: te.Tensor, *arrays: Array) -> Array:
    """What a function's kernels compute; memory that nothing has written holds no numbers."""
    function = te.create_prim_func([*inputs, output])
    found = kernels_of(function, "test")
    forms = host_forms([item.kernel for item in found])
    given = (np.ascontiguousarray(array).reshape(-1) for array in arrays)
    memory = dict(zip(function.params[:-1], given, strict=True))
    for item in found:
        for tensor in item.tensors:
            if tensor not in memory:
                size = int(np.prod(static_shape(tensor)))
                memory[tensor] = np.full(size * 8, 0xA5, np.uint8).view(str(tensor.dtype))[:size]
        forms[item.kernel.name]([memory[tensor] for tensor in item.tensors])
    result: Array = memory[function.params[-1]].reshape(static_shape(function.params[-1]))
    return result
