"""Products on AMX tile registers."""

from tvm.tirx import PrimFunc

from gcompile.backends.tvm.kernels.function import Argument
from gcompile.backends.tvm.kernels.spec import ProductKernel


def emit(kernel: ProductKernel, name: str, leading: list[Argument]) -> PrimFunc:
    raise NotImplementedError
