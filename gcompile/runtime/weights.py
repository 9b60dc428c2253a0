"""The weights of a large model, in a file beside the library.

The tensors lie one after the other in the manifest's order, each starting at a multiple of 64
bytes. The file is mapped, not read: processes that run the same model share its pages.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcompile.errors import ArtifactError
from gcompile.runtime.entry_point import TensorSpec

_ALIGNMENT_BYTES = 64
_LARGE_BYTES = 1 << 30
"""Weights below this size stay in memory between runs."""

Array = NDArray[Any]


@dataclass
class WeightsWriter:
    """Writes the file tensor by tensor; equal tensors are kept once, however many use them.

    Attributes:
        path: The file, which is made with the first tensor.
        specs: What the manifest says about it.
    """

    path: Path
    specs: list[TensorSpec] = field(default_factory=list)
    _places: dict[tuple[str, tuple[int, ...], bytes], int] = field(
        default_factory=dict, repr=False
    )

    def add(self, tensors: Iterable[Array]) -> tuple[int, ...]:
        """Write those that are new, and return where in the file each of them lies."""
        return tuple(self._place(np.ascontiguousarray(tensor)) for tensor in tensors)

    def _place(self, tensor: Array) -> int:
        digest = hashlib.sha256(tensor.data).digest()
        key = (tensor.dtype.name, tensor.shape, digest)
        if key not in self._places:
            spec = TensorSpec(f"weight{len(self.specs)}", tensor.dtype.name, tensor.shape)
            with self.path.open("ab") as file:
                file.write(tensor.data)
                file.write(bytes(_padded_bytes(spec) - tensor.nbytes))
            self._places[key] = len(self.specs)
            self.specs.append(spec)
        return self._places[key]


def map_weights(path: Path, specs: Sequence[TensorSpec]) -> list[Array]:
    """Map the file, whose hash has been checked, into memory.

    Raises:
        ArtifactError: The file has another size than these tensors.
    """
    if not specs:
        return []
    with path.open("rb") as file:
        if path.stat().st_size != sum(_padded_bytes(spec) for spec in specs):
            raise ArtifactError(
                f"{path.name} does not hold the weights its manifest lists; "
                "compile the model again."
            )
        # A private mapping counts as writable, which DLPack asks for; the file stays as it is.
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    tensors, offset = [], 0
    for spec in specs:
        count = math.prod(spec.shape)
        flat = np.frombuffer(mapped, spec.dtype, count, offset)
        tensors.append(flat.reshape(spec.shape))
        offset += _padded_bytes(spec)
    return tensors


def give_back(tensors: Sequence[Array]) -> None:
    """Let the operating system have the memory of mapped tensors; it is read again if needed."""
    if sum(tensor.nbytes for tensor in tensors) < _LARGE_BYTES:
        return
    for mapped in {id(found): found for found in map(_mapping, tensors) if found}.values():
        mapped.madvise(mmap.MADV_DONTNEED)


def _mapping(tensor: Array) -> mmap.mmap | None:
    """What a tensor is a view of."""
    base: Any = tensor
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    return base if isinstance(base, mmap.mmap) else None


def _padded_bytes(spec: TensorSpec) -> int:
    size = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
    return -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
