"""The weights of a large model, in a file beside the library.

The tensors lie one after the other in the manifest's order, each starting at a multiple of 64
bytes. The file is mapped, not read: processes that run the same model share its pages.
"""

from __future__ import annotations

import hashlib
import math
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcompile.errors import ArtifactError
from gcompile.runtime.manifest import TensorSpec

_ALIGNMENT_BYTES = 64

Array = NDArray[Any]


@dataclass
class SharedWeights:
    """The tensors of several variants, each kept once however many variants use it."""

    tensors: list[Array] = field(default_factory=list)
    _places: dict[tuple[str, tuple[int, ...], bytes], int] = field(
        default_factory=dict, repr=False
    )

    def add(self, tensors: Sequence[Array]) -> tuple[int, ...]:
        """Take up the tensors of a variant, and return where in the file each of them lies."""
        return tuple(self._place(np.ascontiguousarray(tensor)) for tensor in tensors)

    def _place(self, tensor: Array) -> int:
        digest = hashlib.sha256(tensor.data).digest()
        key = (tensor.dtype.name, tensor.shape, digest)
        if key not in self._places:
            self._places[key] = len(self.tensors)
            self.tensors.append(tensor)
        return self._places[key]


def write_weights(path: Path, tensors: Sequence[Array]) -> tuple[TensorSpec, ...]:
    """Write the file, and return what the manifest says about it."""
    specs = tuple(
        TensorSpec(f"weight{index}", tensor.dtype.name, tensor.shape)
        for index, tensor in enumerate(tensors)
    )
    with path.open("wb") as file:
        for tensor, spec in zip(tensors, specs, strict=True):
            file.write(np.ascontiguousarray(tensor).data)
            file.write(bytes(_padded_bytes(spec) - tensor.nbytes))
    return specs


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


def _padded_bytes(spec: TensorSpec) -> int:
    size = math.prod(spec.shape) * np.dtype(spec.dtype).itemsize
    return -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES
