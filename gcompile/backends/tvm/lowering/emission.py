"""Write calls of kernels into the Relax module under construction; equal kernels are shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from gcompile.backends.tvm.kernels import depthwise, elementwise, pool, product, transpose
from gcompile.backends.tvm.kernels.spec import (
    AnyKernel,
    DepthwiseKernel,
    ElementwiseKernel,
    Image,
    PoolKernel,
    ProductKernel,
    TransposeKernel,
)

_EMITTERS: dict[type, tuple[str, Callable[..., tvm.tirx.PrimFunc]]] = {
    ProductKernel: ("product", product.emit),
    DepthwiseKernel: ("depthwise", depthwise.emit),
    PoolKernel: ("pool", pool.emit),
    ElementwiseKernel: ("elementwise", elementwise.emit),
    TransposeKernel: ("transpose", transpose.emit),
}


class Shared(TypedDict):
    """The fields every kernel takes from the target."""

    vector_bits: int
    threads: int


@dataclass
class Emission:
    """The module being written.

    Attributes:
        vector_bits: Width of the target's vector registers.
    """

    builder: relax.BlockBuilder
    vector_bits: int
    functions: dict[AnyKernel, tvm.ir.GlobalVar] = field(default_factory=dict)

    def shared(self, threads: int = 1) -> Shared:
        """The fields every kernel takes from the target."""
        return {"vector_bits": self.vector_bits, "threads": threads}

    def call(self, kernel: AnyKernel, arguments: Sequence[relax.Expr], result: Image) -> relax.Var:
        """Call the kernel's function; the result has the image's shape."""
        function = self.functions.get(kernel)
        if function is None:
            kind, emit = _EMITTERS[type(kernel)]
            name = f"{kind}_{len(self.functions)}"
            function = self.builder.add_func(emit(kernel, name), name)
            self.functions[kernel] = function
        ty = relax.TensorType(result.declared or result.shape, result.storage_dtype)
        return self.emit(relax.call_tir(function, list(arguments), ty))

    def emit(self, expression: relax.Expr) -> relax.Var:
        """Bind an expression to a new variable."""
        return self.builder.emit(expression)

    def constant(self, array: NDArray[np.generic]) -> relax.Expr:
        """Put data into the module."""
        return relax.const(np.ascontiguousarray(array))
