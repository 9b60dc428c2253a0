"""Shared and global memory as the interpreter sees them: every access is checked.

Threads run in lockstep here, which hides races, so shared memory remembers which warp touched each
word and when. An access is refused where on a device another thread might not have arrived yet:

- What a warp stored, it reads after a barrier of the warp, another warp after one of the block.
- What `cp.async` writes may not be touched until it has been waited for, and then read after a
  barrier of the block.
- What was read or written is overwritten after the same barriers.
- What `wgmma` reads has been shown to it by a fence before the barrier, and stays untouched until
  the group of instructions has been waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gcompile.backends.cuda.program.operations import Array
from gcompile.backends.cuda.program.program import Buffer

_SEVERAL = -2


class AccessError(RuntimeError):
    """A program touched memory that it may not touch, or not yet."""


@dataclass
class _Touches:
    """The last access to every word: the warp, and how many barriers had passed."""

    warp: NDArray[np.int64]
    of_block: NDArray[np.int64]
    of_warp: NDArray[np.int64]

    @classmethod
    def none(cls, blocks: int, words: int) -> _Touches:
        return cls(*(np.full((blocks, words), -1, np.int64) for _ in range(3)))

    def unsettled(self, block: Array, word: Array, warp: Array, now: tuple[int, int]) -> bool:
        """Say whether no barrier stands between that access and one by these warps now."""
        same_warp = self.warp[block, word] == warp
        waiting_warp = same_warp & (self.of_warp[block, word] == now[1])
        waiting_block = ~same_warp & (self.of_block[block, word] == now[0])
        return bool(np.any(waiting_warp | waiting_block))

    def mark(self, block: Array, word: Array, warp: Array, now: tuple[int, int]) -> None:
        others = (self.warp[block, word] != warp) & (self.of_block[block, word] == now[0])
        self.warp[block, word] = np.where(others, _SEVERAL, warp)
        # Lanes of several warps in one access: whoever is not the one that was kept.
        shared = self.warp[block, word] != warp
        self.warp[block[shared], word[shared]] = _SEVERAL
        self.of_block[block, word] = now[0]
        self.of_warp[block, word] = now[1]


@dataclass
class SharedMemory:
    """The shared memory of all blocks, in words of four bytes.

    Attributes:
        conflicts: By kind of access, how many times more than once the banks had to be asked.
    """

    blocks: int
    size_bytes: int
    conflicts: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        words = self.size_bytes // 4
        self._words = np.full((self.blocks, words), 0x7FC0DEAD, np.uint32)
        self._in_flight = np.zeros((self.blocks, words), bool)
        self._reads = _Touches.none(self.blocks, words)
        self._writes = _Touches.none(self.blocks, words)
        self._shown = np.zeros((self.blocks, words), bool)
        self._in_use = np.zeros((self.blocks, words), np.int16)
        self._now = (0, 0)

    def barrier(self) -> None:
        """All threads of the block meet."""
        self._now = (self._now[0] + 1, self._now[1] + 1)

    def warp_barrier(self) -> None:
        """The threads of each warp meet."""
        self._now = (self._now[0], self._now[1] + 1)

    def read(self, kind: str, block: Array, address: Array, warp: Array, size: int) -> Array:
        """Read `size` bytes in each of n threads: (n, size / 4) words.

        Raises:
            AccessError: Out of range, not aligned, or not settled.
        """
        b, word, w = self._places(block, address, warp, size)
        self._settled(self._writes, b, word, w, f"{kind} reads what was just written")
        self._count_conflicts(kind, block, address, warp, size)
        self._reads.mark(b, word, w, self._now)
        return np.asarray(self._words[b, word])

    def write(self, kind: str, block: Array, address: Array, warp: Array, values: Array) -> None:
        """Store words (n, words) of n threads."""
        b, word, w = self._places(block, address, warp, 4 * values.shape[1])
        self._overwritable(kind, b, word, w)
        self._count_conflicts(kind, block, address, warp, 4 * values.shape[1])
        self._writes.mark(b, word, w, self._now)
        self._words[b, word] = values

    def show_to_groups(self) -> None:
        """What has arrived so far may be read by `wgmma`."""
        self._shown[:] = ~self._in_flight

    def start_group(self, block: Array, address: Array, warp: Array) -> Array:
        """Read chunks of 16 bytes (n, 4 words) for `wgmma`, which keeps reading for a while."""
        b, word, w = self._places(block, address, warp, 16)
        if not self._shown[b, word].all():
            raise AccessError("wgmma reads what no fence has shown to it.")
        self._settled(self._writes, b, word, w, "wgmma reads what was just written")
        np.add.at(self._in_use, (b, word), 1)
        return np.asarray(self._words[b, word])

    def finish_group(self, block: Array, address: Array, warp: Array) -> None:
        """The instruction that read these chunks is done, for the warps that waited."""
        b, word, _ = self._places(block, address, warp, 16)
        np.subtract.at(self._in_use, (b, word), 1)
        self._reads.mark(b, word, np.full_like(b, _SEVERAL), self._now)

    def start_copy(self, block: Array, address: Array, warp: Array, size: int) -> None:
        """Claim the destination of `cp.async`: it may not be touched until it arrives."""
        b, word, w = self._places(block, address, warp, size)
        self._overwritable("cp.async", b, word, w)
        self._count_conflicts("cp.async", block, address, warp, size)
        self._in_flight[b, word] = True

    def finish_copy(self, block: Array, address: Array, warp: Array, values: Array) -> None:
        """The copy has arrived, for the thread that waited."""
        b, word, _ = self._places(block, address, warp, 4 * values.shape[1], arriving=True)
        self._in_flight[b, word] = False
        self._writes.mark(b, word, np.full_like(b, _SEVERAL), self._now)
        self._words[b, word] = values

    def _places(
        self, block: Array, address: Array, warp: Array, size: int, arriving: bool = False
    ) -> tuple[Array, Array, Array]:
        if np.any(address % size):
            raise AccessError(f"Shared memory is accessed at a multiple of {size} bytes only.")
        if np.any(address < 0) or np.any(address + size > self.size_bytes):
            raise AccessError("An address lies outside the shared memory of the block.")
        word = address[:, None] // 4 + np.arange(size // 4)
        b, w = (
            np.broadcast_to(block[:, None], word.shape),
            np.broadcast_to(warp[:, None], word.shape),
        )
        if not arriving and np.any(self._in_flight[b, word]):
            raise AccessError("Shared memory is touched while a copy to it is under way.")
        return b, word, w

    def _settled(self, touches: _Touches, b: Array, word: Array, w: Array, what: str) -> None:
        if touches.unsettled(b, word, w, self._now):
            raise AccessError(f"{what} without a barrier between.")

    def _overwritable(self, kind: str, b: Array, word: Array, w: Array) -> None:
        if self._in_use[b, word].any():
            raise AccessError(f"{kind} overwrites what wgmma may still read.")
        self._shown[b, word] = False
        self._settled(self._reads, b, word, w, f"{kind} overwrites what was just read")
        self._settled(self._writes, b, word, w, f"{kind} overwrites what was just written")
        places = b * (self.size_bytes // 4) + word
        if np.unique(places).size != places.size:
            raise AccessError(f"{kind} writes a word from two threads at once.")

    def _count_conflicts(
        self, kind: str, block: Array, address: Array, warp: Array, size: int
    ) -> None:
        """32 banks of four bytes serve 128 bytes at once, so 128 / size lanes together.

        Several lanes that ask a bank for the same word share the answer.
        """
        lanes = 128 // size
        order = np.arange(len(address)) // lanes  # Threads come in order, whole warps at a time.
        line, bank = address // 128, (address % 128) // size
        keys = np.unique(np.stack([order, bank, line, block]), axis=1)
        _, asked = np.unique(keys[:2], axis=1, return_counts=True)
        extra = int(np.sum(asked - 1))
        self.conflicts[kind] = self.conflicts.get(kind, 0) + extra


class GlobalMemory:
    """The arguments, by name. Every element of a written one is written at most once."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self._bytes = {name: _flat_bytes(array) for name, array in arrays.items()}
        self._times_written = {name: np.zeros(a.size, np.uint8) for name, a in arrays.items()}

    def read(self, buffer: Buffer, index: Array, count: int) -> Array:
        """Read `count` consecutive elements in each of n threads, as bytes (n, count · size)."""
        places = self._places(buffer, index, count)
        return np.asarray(self._bytes[buffer.name][places])

    def write(self, buffer: Buffer, index: Array, count: int, values: Array) -> None:
        """Write bytes (n, count · size) of n threads."""
        places = self._places(buffer, index, count)
        if not buffer.written:
            raise AccessError(f"{buffer.name} is read only.")
        elements = index[:, None] + np.arange(count)
        np.add.at(self._times_written[buffer.name], elements, 1)
        if np.any(self._times_written[buffer.name][elements] > 1):
            raise AccessError(f"An element of {buffer.name} is written twice.")
        self._bytes[buffer.name][places] = values

    def _places(self, buffer: Buffer, index: Array, count: int) -> Array:
        size = buffer.element_bytes
        if np.any(index < 0) or np.any(index + count > buffer.elements):
            raise AccessError(f"An index lies outside {buffer.name}.")
        if np.any(index * size % (count * size)):
            raise AccessError(
                f"{buffer.name} is accessed at a multiple of {count * size} bytes only."
            )
        return np.asarray(index[:, None] * size + np.arange(count * size))


def _flat_bytes(array: Array) -> Array:
    if not array.flags.c_contiguous:
        raise ValueError("Arguments are contiguous.")
    return array.reshape(-1).view(np.uint8)
