"""Kernels become machine code for the architecture whose instructions they use."""

from __future__ import annotations

import pytest

from gcompile.backends.cuda.compile_kernels import compile_kernels
from gcompile.backends.cuda.kernel import Kernel
from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.kernels.sequence import product_sequence
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS
from gcompile.backends.cuda.toolchain import Nvrtc, nvrtc
from gcompile.errors import BackendUnavailableError, CompileError
from gcompile.ir import Contraction
from tests.backends.cuda.kernels.products import plain_epilogue


def _compiler() -> Nvrtc:
    try:
        return nvrtc()
    except BackendUnavailableError as error:
        pytest.skip(str(error))


def _kernel() -> Kernel:
    """Only sm_90a has its instructions."""
    product = Product(
        "gemm",
        INSTRUCTIONS["f16"],
        Contraction.matmul(64, 64, 64),
        BlockTile(64, 64, 16, 64, by_groups=True),
        plain_epilogue(64, 64),
        64,
        64,
    )
    (step,) = product_sequence(product).steps
    return step.kernel


def test_groups_of_warps_are_compiled_for_the_one_architecture_that_has_them() -> None:
    (code,) = compile_kernels([_kernel()], 90, _compiler(), None)
    assert b".target sm_90a" in code.ptx


def test_another_architecture_is_refused() -> None:
    with pytest.raises(CompileError, match="runs on sm_90a alone and the target is sm_100"):
        compile_kernels([_kernel()], 100, _compiler(), None)
