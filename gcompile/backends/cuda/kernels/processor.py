"""What a multiprocessor holds at once, by architecture."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gcompile.errors import TargetError

REGISTERS = 65536
"""Of 32 bits, in every multiprocessor since 2012."""

MOST_REGISTERS = 255
"""Of one thread."""


@dataclass(frozen=True, slots=True)
class Processor:
    """The limits of one multiprocessor.

    Attributes:
        shared_bytes: Shared memory.
        block_shared_bytes: The most that one block may ask for.
        reserved_shared_bytes: What the system takes from each block besides.
        shared_bytes_per_clock: What shared memory reads or writes in a clock.
        threads: Threads at once.
        blocks: Blocks at once.
        mma_share: Share of the tensor cores' peak that `mma.sync` can reach.
        latency_clocks: Clocks until a read arrives that misses the first-level cache.
    """

    shared_bytes: int
    block_shared_bytes: int
    reserved_shared_bytes: int
    shared_bytes_per_clock: float
    threads: int
    blocks: int
    mma_share: float
    latency_clocks: float

    def resident(self, threads: int, registers: int, shared_bytes: int) -> int:
        """Count the blocks that fit at once; 0 where one does not fit.

        Args:
            threads: Of a block, a multiple of 32.
            registers: Of a thread; warps take them in portions of 256.
            shared_bytes: Of a block.
        """
        if registers > MOST_REGISTERS or shared_bytes > self.block_shared_bytes:
            return 0
        of_warp = math.ceil(registers / 8) * 8 * 32
        return min(
            self.shared_bytes // (shared_bytes + self.reserved_shared_bytes),
            REGISTERS // of_warp // (threads // 32),
            self.threads // threads,
            self.blocks,
        )


@cache
def processor_of(arch: int) -> Processor:
    """The multiprocessor of an architecture: 80 for sm_80.

    Raises:
        TargetError: It is not known.
    """
    known = tomllib.loads((Path(__file__).parent / "processors.toml").read_text())
    if str(arch) not in known:
        names = ", ".join(f"sm_{name}" for name in known)
        raise TargetError(f"Kernels know no multiprocessor of sm_{arch}; known are {names}.")
    return Processor(**known[str(arch)])
