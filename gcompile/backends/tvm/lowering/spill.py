"""Packed weights of large models, in files without a name instead of in memory.

Packing makes a second copy of every weight. Beyond a limit, copies are written to temporary files
that are mapped and that the operating system drops with the process: only what is being read lies
in memory.
"""

from __future__ import annotations

import mmap
import tempfile
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

_IN_MEMORY_BYTES = 256 << 20
"""Weights that are kept in memory, all together."""

_SMALL_BYTES = 1 << 20
"""Arrays below this size stay in memory, whatever the others take."""


@dataclass
class Spill:
    """Where constants of a module lie.

    Attributes:
        limit_bytes: What is kept in memory.
        held_bytes: What is in memory by now.
    """

    limit_bytes: int = _IN_MEMORY_BYTES
    held_bytes: int = 0
    _files: list[mmap.mmap] = field(default_factory=list, repr=False)

    def stored(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """The array, or a file that holds the same, mapped."""
        if array.nbytes < _SMALL_BYTES or self.held_bytes + array.nbytes <= self.limit_bytes:
            self.held_bytes += array.nbytes
            return array
        with tempfile.TemporaryFile(prefix="gcompile-") as file:
            file.write(np.ascontiguousarray(array).data)
            file.flush()
            # A private mapping counts as writable, which DLPack asks for.
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        self._files.append(mapped)
        return np.frombuffer(mapped, array.dtype).reshape(array.shape)

    def give_back(self) -> None:
        """Let the operating system have the memory of what was read; it is read again."""
        for mapped in self._files:
            mapped.madvise(mmap.MADV_DONTNEED)
