"""Take large weights out of a module, so that they need not be linked into the library.

A linker and the loader copy every byte of a library's constants, twice over. Weights that become
parameters of the entry are written to a file of their own, and the runtime maps it into memory.
"""

from __future__ import annotations

import math

import numpy as np
import tvm
import tvm_ffi
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import GenericConst

from gcompile.runtime.entry_point import DTYPES

Weights = tuple[NDArray[np.generic], ...]


def move_weights_out(
    module: tvm.IRModule, at_least: int, each_at_least: int, entry: str = "main"
) -> tuple[tvm.IRModule, Weights]:
    """Make the large constants of the entry its last parameters.

    Constants of other functions, such as the branches of an If, stay where they are.

    Args:
        module: Functions of Relax, and the kernels they call.
        at_least: A module whose large constants have fewer bytes together keeps them.
        each_at_least: Bytes from which a constant is large. Each parameter is checked in every
            call, which takes 0.1 µs.
        entry: The function that runs the model.

    Returns:
        The module, and the constants in the order of their parameters.
    """
    function = module[entry]
    constants = _large_constants(function, each_at_least)
    if sum(_bytes(constant) for constant in constants) < at_least:
        return module, ()
    parameters = {
        constant: relax.Var(f"weight{index}", constant.ty)
        for index, constant in enumerate(constants)
    }
    body = tvm_ffi.structural_map(
        function.body, (GenericConst, lambda constant: parameters.get(constant, constant))
    )
    changed = module.clone()
    changed[entry] = relax.Function(
        [*function.params, *parameters.values()],
        body,
        function.ret_ty,
        function.is_pure,
        function.attrs,
    )
    # Views: packed weights of a large model lie in files.
    return changed, tuple(np.from_dlpack(constant.value) for constant in constants)


def _large_constants(function: relax.Function, each_at_least: int) -> list[GenericConst]:
    """In order of first use."""
    found: dict[GenericConst, None] = {}

    def see(constant: GenericConst) -> None:
        if _bytes(constant) >= each_at_least:
            found[constant] = None

    tvm_ffi.structural_walk(function.body, (GenericConst, see))
    return list(found)


def _bytes(constant: GenericConst) -> int:
    tensor = constant.value
    if not isinstance(tensor, tvm.runtime.Tensor) or str(tensor.dtype) not in DTYPES:
        return 0
    return math.prod(int(n) for n in tensor.shape) * int(tensor.dtype.itemsize)
