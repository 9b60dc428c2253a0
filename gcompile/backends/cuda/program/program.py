"""The statements of a tile program: what every thread of a grid of blocks does.

All threads of a block run the same statements. Operations on shared memory take byte addresses;
global buffers are indexed by element.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gcompile.backends.cuda.program.matrix_statements import (
    BeginGroup,
    CommitGroup,
    LoadMatrix,
    Multiply,
    MultiplyGroup,
    MultiplySparse,
    RoundToTf32,
    ShowToGroups,
    WaitGroup,
)
from gcompile.backends.cuda.program.operations import DType
from gcompile.backends.cuda.program.scalar import Scalar, variable

Storage = Literal["float32", "float16", "bfloat16", "int32", "int8", "uint8"]

STORAGE_BYTES: dict[Storage, int] = {
    "float32": 4,
    "int32": 4,
    "float16": 2,
    "bfloat16": 2,
    "int8": 1,
    "uint8": 1,
}

THREAD = variable("thread")
LANE = variable("lane")
WARP = variable("warp")
BLOCK_X, BLOCK_Y, BLOCK_Z = variable("block_x"), variable("block_y"), variable("block_z")

GROUPS_ARCH = "90a"
"""The architecture that has `wgmma`."""

_KNOWN = ("thread", "lane", "warp", "block_x", "block_y", "block_z", "shared")


@dataclass(frozen=True, slots=True)
class Buffer:
    """An argument in global memory, aligned to 16 bytes.

    Attributes:
        elements: How many there are; an access outside is an error of the program.
        written: The program writes it, every element at most once, and does not read it.
    """

    name: str
    storage: Storage
    elements: int
    written: bool = False

    @property
    def element_bytes(self) -> int:
        """Bytes of one element."""
        return STORAGE_BYTES[self.storage]


@dataclass(frozen=True, slots=True)
class Let:
    """Name a value for the statements that follow in the same body."""

    name: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Registers:
    """Declare an array of registers per thread; `zero` clears it."""

    name: str
    dtype: DType
    count: int
    zero: bool = False


@dataclass(frozen=True, slots=True)
class Set:
    """Assign to one register."""

    register: Scalar
    value: Scalar


@dataclass(frozen=True, slots=True)
class For:
    """Repeat the body for `counter` from 0 to count - 1; `unrolled` where it indexes registers.

    A count that is an expression is the same for all threads of a block.
    """

    counter: str
    count: int | Scalar
    body: tuple[Statement, ...]
    unrolled: bool = False


@dataclass(frozen=True, slots=True)
class Scope:
    """Statements whose names no one else uses."""

    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class If:
    """Run the body in the threads for which the condition holds."""

    condition: Scalar
    body: tuple[Statement, ...]


@dataclass(frozen=True, slots=True)
class CopyAsync:
    """`cp.async`: start a copy of 4, 8 or 16 bytes from global to shared memory.

    Where `condition` does not hold, zeros are written and nothing is read.
    """

    address: Scalar
    buffer: Buffer
    index: Scalar
    size: int
    condition: Scalar | None = None


@dataclass(frozen=True, slots=True)
class Commit:
    """`cp.async.commit_group`: the copies since the last one form a group."""


@dataclass(frozen=True, slots=True)
class Wait:
    """`cp.async.wait_group`: all groups but the newest `pending` have arrived, for this thread."""

    pending: int


@dataclass(frozen=True, slots=True)
class Barrier:
    """`__syncthreads`."""


@dataclass(frozen=True, slots=True)
class WarpBarrier:
    """`__syncwarp`."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """`__shfl_xor_sync`: a register receives what the lane at this distance (by xor) holds."""

    register: Scalar
    value: Scalar
    distance: int


@dataclass(frozen=True, slots=True)
class StoreShared:
    """Store 32-bit values at consecutive addresses, which are aligned to their total size."""

    address: Scalar
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class LoadShared:
    """Load 32-bit registers from consecutive addresses, aligned to their total size."""

    registers: tuple[Scalar, ...]
    address: Scalar


@dataclass(frozen=True, slots=True)
class LoadGlobal:
    """Load consecutive elements in one access and widen them: to float32, or int32 if integer."""

    registers: tuple[Scalar, ...]
    buffer: Buffer
    index: Scalar


@dataclass(frozen=True, slots=True)
class LoadWords:
    """Load 4, 8 or 16 consecutive bytes as they are, into registers of 32 bits."""

    registers: tuple[Scalar, ...]
    buffer: Buffer
    index: Scalar


@dataclass(frozen=True, slots=True)
class StoreGlobal:
    """Store consecutive elements in one access: float32, or int32 within the type's range."""

    buffer: Buffer
    index: Scalar
    values: tuple[Scalar, ...]


Statement = (
    Let
    | Registers
    | Set
    | For
    | Scope
    | If
    | CopyAsync
    | Commit
    | Wait
    | Barrier
    | WarpBarrier
    | Exchange
    | LoadMatrix
    | Multiply
    | MultiplySparse
    | ShowToGroups
    | BeginGroup
    | MultiplyGroup
    | CommitGroup
    | WaitGroup
    | RoundToTf32
    | StoreShared
    | LoadShared
    | LoadGlobal
    | LoadWords
    | StoreGlobal
)


@dataclass(frozen=True, slots=True)
class Program:
    """One kernel.

    Attributes:
        buffers: The arguments, in order.
        grid: Blocks along x, y and z.
        threads: Threads of a block, a multiple of 32.
        shared_bytes: Dynamic shared memory of a block.
        blocks_per_processor: Blocks that shall fit a multiprocessor at once, which limits the
            registers of a thread.
    """

    name: str
    buffers: tuple[Buffer, ...]
    grid: tuple[int, int, int]
    threads: int
    shared_bytes: int
    body: tuple[Statement, ...]
    blocks_per_processor: int = 1

    @property
    def blocks_differ(self) -> bool:
        """Some loop runs another number of times in other blocks."""
        return any(isinstance(s, For) and isinstance(s.count, Scalar) for s in self.body)

    @property
    def uses_groups(self) -> bool:
        """Groups of warps multiply: only one architecture has that."""
        return _has_groups(self.body)

    def __post_init__(self) -> None:
        declared = [s.name for s in self.body if isinstance(s, Let | Registers)]
        names = [*_KNOWN, *(b.name for b in self.buffers), *declared]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"Names are declared twice: {', '.join(sorted(twice))}.")


def _has_groups(body: tuple[Statement, ...]) -> bool:
    return any(
        isinstance(s, MultiplyGroup) or (isinstance(s, For | If | Scope) and _has_groups(s.body))
        for s in body
    )
