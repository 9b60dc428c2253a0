"""A tile program as a kernel that can be compiled, launched, or executed by the interpreter."""

from __future__ import annotations

from collections.abc import Sequence

from gcompile.backends.cuda.kernel import Access, Argument, Kernel
from gcompile.backends.cuda.kernel import Buffer as Flat
from gcompile.backends.cuda.program.cuda_text import cuda_text
from gcompile.backends.cuda.program.interpret import interpret
from gcompile.backends.cuda.program.program import GROUPS_ARCH, Buffer, Program

_BFLOAT16_ARCH, _ARCH = 80, 75
"""The first architecture that converts bfloat16, and the oldest one there is code for."""


def as_kernel(
    program: Program, unit: str = "cuda-core", operations: int = 0, least_arch: int = 80
) -> Kernel:
    """Print the program and describe its launch; its CPU form is the interpreter.

    Args:
        program: What each thread does.
        unit: The unit of the target that does its arithmetic.
        operations: Arithmetic of one launch on that unit.
        least_arch: The oldest architecture whose instructions suffice.
    """

    def execute(arrays: Sequence[Flat]) -> None:
        interpret(program, arrays)

    return Kernel(
        name=program.name,
        source=cuda_text(program),
        grid=program.grid,
        block=(program.threads, 1, 1),
        arguments=tuple(_argument(b) for b in program.buffers),
        dynamic_shared_bytes=program.shared_bytes,
        cpu=execute,
        least_arch=least_arch,
        only_arch=GROUPS_ARCH if program.uses_groups else "",
        unit=unit,
        operations=operations,
    )


def least_arch_of(program: Program) -> int:
    """The oldest architecture of a program without instructions of its own: see `as_kernel`."""
    has_bfloat16 = any(buffer.storage == "bfloat16" for buffer in program.buffers)
    return _BFLOAT16_ARCH if has_bfloat16 else _ARCH


def _argument(buffer: Buffer) -> Argument:
    access = Access.WRITE if buffer.written else Access.READ
    return Argument(buffer.name, buffer.storage, buffer.elements, access)
