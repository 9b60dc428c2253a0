"""One kernel of a GPU: its text, how it is launched, and the same computation on a CPU.

Shapes are static, so sizes are written into the text and all arguments are pointers to device
memory; scales and zero points of a layer are behind one of them, so that equal layers share a
kernel. A kernel belongs to one architecture only where its text says so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

Buffer = NDArray[Any]
"""A flat array over the memory of one argument, in the argument's element type."""

CpuForm = Callable[[Sequence[Buffer]], None]
"""Computes on the CPU what a launch computes on the GPU, block by block, in the same memory.

It takes one flat, contiguous array per argument, in the order of the arguments, and writes those
that the kernel writes."""


class Access(StrEnum):
    """What a kernel does with an argument."""

    READ = "read"
    WRITE = "write"
    UPDATE = "update"
    """It reads what is there and writes over it."""


@dataclass(frozen=True)
class Argument:
    """One pointer a kernel takes.

    Attributes:
        name: What the text calls it.
        dtype: Element type, as numpy names it; `bfloat16` and the 8-bit floats as `ml_dtypes` do.
        size: Elements behind the pointer.
        touched: The most of them that one launch reads or writes; None where it may be all, as
            for all but tables that a few rows are taken from.
    """

    name: str
    dtype: str
    size: int
    access: Access = Access.READ
    touched: int | None = None

    @property
    def share(self) -> float:
        """What a launch touches of its elements, at most."""
        return 1.0 if self.touched is None else min(1.0, self.touched / max(self.size, 1))


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes that all blocks of one launch move.

    Attributes:
        shared_bytes: Read from shared memory, or through the first level; what fills that is
            counted where it comes from.
        l2_bytes: From and to the second-level cache, where blocks meet.
    """

    shared_bytes: float
    l2_bytes: float


@dataclass(frozen=True)
class Kernel:
    """A kernel with its launch.

    Attributes:
        name: The symbol in the text, a C identifier; equal names mean equal kernels.
        source: CUDA C with `extern "C" __global__ void name(...)`, complete in itself: it includes
            no header that a compiler does not bring along.
        grid: Blocks in x, y and z.
        block: Threads of a block in x, y and z.
        arguments: In the order of the parameters.
        dynamic_shared_bytes: Shared memory asked for at launch, beyond what the text declares.
        cpu: The CPU form; None where the text itself can be compiled for the CPU, which holds for
            text without inline assembly, warp operations and asynchronous copies.
        least_arch: The oldest architecture that runs it: 80 for sm_80.
        only_arch: The one architecture whose own instructions it uses, such as `90a`; empty where
            newer ones run it too.
        unit: The unit of the target that does its arithmetic, such as `tensor-core-fp16`.
        operations: Arithmetic of one launch on that unit, 2 per multiply-accumulate, padding
            included; of sparse weights only with those that are stored.
        traffic: What its tiles move; None where it moves each argument once.
        is_sparse: Of every four weights two are stored and multiplied.
    """

    name: str
    source: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    arguments: tuple[Argument, ...]
    dynamic_shared_bytes: int = 0
    cpu: CpuForm | None = field(default=None, compare=False)
    least_arch: int = 75
    only_arch: str = ""
    unit: str = "cuda-core"
    operations: int = 0
    traffic: Traffic | None = None
    is_sparse: bool = False


@dataclass(frozen=True)
class Step:
    """One launch within a sequence: the kernel, and the name of the operand for each argument."""

    kernel: Kernel
    operands: tuple[str, ...]


@dataclass(frozen=True)
class KernelSequence:
    """Kernels that do one job together, such as partial sums and their addition.

    Attributes:
        steps: In the order in which they run.
        scratch: Bytes of each operand that lives only within the sequence, by name.
        zeroed: Those scratch operands that are zeros when the sequence starts.
    """

    steps: tuple[Step, ...]
    scratch: Mapping[str, int] = field(default_factory=dict)
    zeroed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, kernel: Kernel) -> KernelSequence:
        """A sequence of one kernel whose operands have the names of its arguments."""
        names = tuple(argument.name for argument in kernel.arguments)
        return cls((Step(kernel, names),))
