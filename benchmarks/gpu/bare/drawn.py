"""Weights that are drawn where they are needed instead of being carried.

The bits come from PCG64, whose stream numpy never changes, and become numbers by integer sums and
one multiplication: the same bytes on every machine. Zeros that code relies on, such as the padding
of packed weights, stay where they are.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

BFLOAT16 = "uint16"
"""How numpy alone holds bfloat16."""

_ALIGNMENT_BYTES = 64
_CENTRE = 2 * 65535
_DEVIATION = math.sqrt(4 * (65536**2 - 1) / 12)
"""Of the sum of four uniform 16-bit numbers (Irwin and Hall)."""


@dataclass(frozen=True)
class Drawn:
    """One tensor.

    Attributes:
        seed: Of its bits.
        dtype: As numpy names it; bfloat16 is `uint16`.
        deviation: Standard deviation of its numbers, in their own units.
        kept: Which units are not zero: packed bits, deflated, base64; empty where all are drawn.
            A unit is an element, or four bytes of smaller elements.
    """

    seed: int
    dtype: str
    shape: tuple[int, ...]
    deviation: float
    kept: str = ""

    def array(self) -> Array:
        """The tensor."""
        count = math.prod(self.shape)
        flat = _numbers(self.seed, count, self.dtype, self.deviation)
        if self.kept:
            packed = np.frombuffer(zlib.decompress(base64.b64decode(self.kept)), np.uint8)
            repeats = _unit(flat.dtype)
            mask = np.unpackbits(packed)[: -(-count // repeats)].astype(bool)
            flat[~np.repeat(mask, repeats)[:count]] = 0
        return flat.reshape(self.shape)


def like(array: Array, seed: int) -> Drawn:
    """A drawn tensor of the same type, shape, spread and zeros."""
    flat = np.ascontiguousarray(array).reshape(-1)
    repeats = _unit(flat.dtype)
    filled = np.concatenate([flat, np.zeros(-flat.size % repeats, flat.dtype)])
    mask = (filled.reshape(-1, repeats) != 0).any(1)
    kept = (
        ""
        if mask.all()
        else base64.b64encode(zlib.compress(np.packbits(mask).tobytes(), 9)).decode()
    )
    numbers = _as_float(flat)
    used = numbers[numbers != 0]
    deviation = float(np.sqrt(np.mean(used.astype(np.float64) ** 2))) if used.size else 0.0
    return Drawn(seed, flat.dtype.name, tuple(array.shape), deviation, kept)


def write_weights(folder: Path, recipes: Path) -> str:
    """Write `weights.bin` into an artefact and return its SHA-256.

    Args:
        folder: The artefact, without its weights.
        recipes: Beside each drawn tensor the tensors that are carried: `.json`, and `.npz`.
    """
    digest = hashlib.sha256()
    with (folder / "weights.bin").open("wb") as out:
        for array in read(recipes):
            data = np.ascontiguousarray(array).tobytes()
            data += bytes(-len(data) % _ALIGNMENT_BYTES)
            out.write(data)
            digest.update(data)
    return digest.hexdigest()


def save(recipes: Path, tensors: list[Drawn | Array]) -> None:
    """Write down how to make the tensors of an artefact, in their order."""
    listed = [asdict(item) if isinstance(item, Drawn) else None for item in tensors]
    recipes.write_text(json.dumps(listed), encoding="utf-8")
    carried = {
        str(index): item for index, item in enumerate(tensors) if not isinstance(item, Drawn)
    }
    with recipes.with_suffix(".npz").open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **carried)


def read(recipes: Path) -> Iterator[Array]:
    """The tensors that `save` wrote down."""
    with np.load(recipes.with_suffix(".npz")) as carried:
        for index, item in enumerate(json.loads(recipes.read_text(encoding="utf-8"))):
            if item is None:
                yield carried[str(index)]
            else:
                yield Drawn(**{**item, "shape": tuple(item["shape"])}).array()


def _numbers(seed: int, count: int, dtype: str, deviation: float) -> Array:
    bits = np.random.PCG64(seed).random_raw(count).view(np.uint16).reshape(count, 4)
    numbers = (bits.sum(1, dtype=np.int64) - _CENTRE).astype(np.float32)
    numbers *= np.float32(deviation / _DEVIATION)
    if dtype == BFLOAT16:
        return to_bfloat16(numbers)
    if dtype == "int8":
        return np.asarray(np.clip(np.rint(numbers), -127, 127), np.int8)
    if dtype == "uint8":
        return np.asarray(bits[:, 0] & 0xFF, np.uint8)
    return np.asarray(numbers, dtype)


def to_bfloat16(numbers: Array) -> Array:
    """Round float32 to bfloat16, halves to even, as bits."""
    bits = numbers.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    return np.asarray(rounded >> np.uint32(16)).astype(np.uint16)


def _as_float(flat: Array) -> Array:
    if flat.dtype.name == BFLOAT16:
        return (flat.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return flat


def _unit(dtype: np.dtype[Any]) -> int:
    return 4 if dtype.itemsize == 1 else 1
