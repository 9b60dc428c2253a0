"""The statements of a tile program that tensor cores execute, and those that feed them."""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.backends.cuda.program.instruction import (
    GroupInstruction,
    Instruction,
    SparseInstruction,
)
from gcompile.backends.cuda.program.scalar import Scalar


@dataclass(frozen=True, slots=True)
class LoadMatrix:
    """`ldmatrix`: 1, 2 or 4 matrices of 8 rows by 16 bytes, from the lanes' row addresses."""

    registers: tuple[Scalar, ...]
    address: Scalar
    transposed: bool = False


@dataclass(frozen=True, slots=True)
class Multiply:
    """`mma.sync`: add the product of two fragments to the sums."""

    instruction: Instruction
    sums: tuple[Scalar, ...]
    left: tuple[Scalar, ...]
    right: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class MultiplySparse:
    """`mma.sp`: add the product of kept weights and columns to the sums.

    Attributes:
        metadata: Which weights were kept.
        selector: Which lanes' metadata count.
    """

    instruction: SparseInstruction
    sums: tuple[Scalar, ...]
    left: tuple[Scalar, ...]
    right: tuple[Scalar, ...]
    metadata: Scalar
    selector: int


@dataclass(frozen=True, slots=True)
class ShowToGroups:
    """`fence.proxy.async`: what arrived in shared memory may be read by `wgmma`."""


@dataclass(frozen=True, slots=True)
class BeginGroup:
    """`wgmma.fence`: registers that were written before may be added to by `wgmma`."""


@dataclass(frozen=True, slots=True)
class MultiplyGroup:
    """`wgmma.mma_async`: start adding a product of two matrices in shared memory to the sums.

    Attributes:
        sums: The register array and its first element.
        left: Byte address of the rows of the group of warps.
        right: Byte address of the columns.
        layout: The rest of both matrix descriptors.
    """

    instruction: GroupInstruction
    sums: Scalar
    left: Scalar
    right: Scalar
    layout: int


@dataclass(frozen=True, slots=True)
class CommitGroup:
    """`wgmma.commit_group`: the products since the last one form a group."""


@dataclass(frozen=True, slots=True)
class WaitGroup:
    """`wgmma.wait_group`: all groups but the newest `pending` are done; then sums may be read."""

    pending: int


@dataclass(frozen=True, slots=True)
class RoundToTf32:
    """`cvt.rna.tf32.f32`: round a register to 10 bits of mantissa, halves away from zero."""

    register: Scalar
