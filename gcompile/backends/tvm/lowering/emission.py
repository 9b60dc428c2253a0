"""Write calls of kernels into the Relax module under construction; equal kernels are shared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypedDict

import ml_dtypes
import numpy as np
import tvm
from numpy.typing import NDArray
from tvm import relax

from gcompile import ir
from gcompile.backends.tvm.kernels import (
    attention,
    batched,
    copy_regions,
    depthwise,
    dynamic_quantize,
    elementwise,
    gather,
    normalize,
    pool,
    product,
    recurrence,
    reduce,
    resize,
    softmax,
    transpose,
    transposed_convolution,
    weight_only,
    winograd,
    write_rows,
)
from gcompile.backends.tvm.kernels.function import Code
from gcompile.backends.tvm.kernels.recurrent_net import RecurrenceKernel
from gcompile.backends.tvm.kernels.spec import (
    AnyKernel,
    DepthwiseKernel,
    DynamicQuantizeKernel,
    ElementwiseKernel,
    Image,
    PoolKernel,
    ProductKernel,
    TransposeKernel,
)
from gcompile.backends.tvm.lowering.merge import KernelCall
from gcompile.backends.tvm.lowering.spill import Spill

_CODE: dict[type, tuple[str, Callable[..., Code]]] = {
    ProductKernel: ("product", product.code),
    DepthwiseKernel: ("depthwise", depthwise.code),
    PoolKernel: ("pool", pool.code),
    ElementwiseKernel: ("elementwise", elementwise.code),
    TransposeKernel: ("transpose", transpose.code),
    weight_only.WeightOnlyKernel: ("weight_only", weight_only.code),
    winograd.WinogradKernel: ("winograd", winograd.code),
    copy_regions.CopyKernel: ("copy", copy_regions.code),
    softmax.SoftmaxKernel: ("softmax", softmax.code),
    normalize.NormalizeKernel: ("normalize", normalize.code),
    reduce.ReduceKernel: ("reduce", reduce.code),
    gather.GatherKernel: ("gather", gather.code),
    resize.ResizeKernel: ("resize", resize.code),
    transposed_convolution.TransposedKernel: (
        "transposed_convolution",
        transposed_convolution.code,
    ),
    batched.BatchedKernel: ("batched", batched.code),
    attention.AttentionKernel: ("attention", attention.code),
    RecurrenceKernel: ("recurrence", recurrence.code),
    write_rows.WriteRowsKernel: ("write_rows", write_rows.code),
    DynamicQuantizeKernel: ("dynamic_quantize", dynamic_quantize.code),
}


def code_of(kernel: AnyKernel) -> tuple[str, Code]:
    """What kind of kernel it is, and its code."""
    kind, write = _CODE[type(kernel)]
    return kind, write(kernel)


class Shared(TypedDict):
    """The fields every kernel takes from the target."""

    vector_bits: int
    threads: int


@dataclass
class Emission:
    """The module being written.

    Attributes:
        vector_bits: Width of the target's vector registers.
        cache_bytes: Size of the largest cache that a core has for itself.
        launch: The launch that the region being written belongs to.
        chain: The chain that it belongs to.
        calls: Every kernel call so far, by the variable of its result.
        branches: How many branches of If nodes have become functions.
        spill: Where large constants lie.
    """

    builder: relax.BlockBuilder
    vector_bits: int
    cache_bytes: int
    functions: dict[AnyKernel, tuple[tvm.ir.GlobalVar, Code]] = field(default_factory=dict)
    launch: str = ""
    chain: ir.Chain | None = None
    calls: dict[relax.Var, KernelCall] = field(default_factory=dict)
    branches: int = 0
    spill: Spill = field(default_factory=Spill)

    def shared(self, threads: int = 1) -> Shared:
        """The fields every kernel takes from the target."""
        return {"vector_bits": self.vector_bits, "threads": threads}

    def call(self, kernel: AnyKernel, arguments: Sequence[relax.Expr], result: Image) -> relax.Var:
        """Call the kernel's function; the result has the image's shape."""
        function, code = self._function(kernel)
        ty = relax.TensorType(result.tensor_shape, result.storage_dtype)
        variable = self.emit(relax.call_tir(function, list(arguments), ty))
        self.calls[variable] = KernelCall(kernel, code, tuple(arguments), self.launch, self.chain)
        return variable

    def call_for_several(
        self, kernel: AnyKernel, arguments: Sequence[relax.Expr], results: Sequence[Image]
    ) -> list[relax.Var]:
        """Call a kernel that writes several tensors. The call joins no others in one launch."""
        function = self._function(kernel)[0]
        types = [relax.TensorType(image.tensor_shape, image.storage_dtype) for image in results]
        several = self.emit(relax.call_tir(function, list(arguments), types))
        return [self.emit(relax.TupleGetItem(several, index)) for index in range(len(types))]

    def call_in_place(
        self, kernel: AnyKernel, arguments: Sequence[relax.Expr], result: Image
    ) -> relax.Var:
        """Call a kernel whose result is written into the memory of its last argument.

        Nobody else may read that argument. The call joins no others in one launch.
        """
        function = self._function(kernel)[0]
        ty = relax.TensorType(result.tensor_shape, result.storage_dtype)
        last = len(arguments) - 1
        return self.emit(relax.op.call_tir_inplace(function, list(arguments), [last], ty))

    def emit(self, expression: relax.Expr) -> relax.Var:
        """Bind an expression to a new variable."""
        return self.builder.emit(expression)

    def _function(self, kernel: AnyKernel) -> tuple[tvm.ir.GlobalVar, Code]:
        if kernel not in self.functions:
            kind, code = code_of(kernel)
            name = f"{kind}_{len(self.functions)}"
            self.functions[kernel] = self.builder.add_func(code.function(name), name), code
        return self.functions[kernel]

    def constant(self, array: NDArray[np.generic]) -> relax.Expr:
        """Put data into the module; a scalar stays one."""
        stored = array.view(np.uint16) if array.dtype == ml_dtypes.bfloat16 else array
        if not stored.size:  # The file of a module cannot hold data without elements.
            shape = relax.ShapeExpr(stored.shape)
            return self.emit(relax.op.builtin.alloc_tensor(shape, str(stored.dtype), 0))
        # Without a type, Relax would halve integers and floats of 64 bits.
        dense = np.asarray(stored, order="C")
        held = self.spill.stored(dense)
        data = dense if held is dense else tvm.runtime.from_dlpack(held)
        return relax.const(data, str(stored.dtype))
