"""Keep what tests launch, to be launched elsewhere: kernels, and arguments before and after."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from gcompile.backends.cuda.kernel import Access, Kernel
from tests.backends.cuda.launches_of_tests import Array

_MOST_OF_A_TEST = 60
_MOST_BYTES = 1 << 20
_FIELDS = ("name", "source", "grid", "block", "dynamic_shared_bytes", "least_arch", "only_arch")


class Recorder:
    """Writes `NAME.json` and `NAME.npz` for each launch; `benchmarks.gpu.launches` reads them.

    Types that only `ml_dtypes` has are written as integers of their size.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counted: Counter[str] = Counter()
        folder.mkdir(parents=True, exist_ok=True)

    def __call__(self, kernel: Kernel, before: list[Array], after: Sequence[Array]) -> None:
        test = os.environ["PYTEST_CURRENT_TEST"].partition(" ")[0]
        is_large = sum(array.nbytes for array in before) > _MOST_BYTES
        if is_large or self.counted[test] >= _MOST_OF_A_TEST:
            return
        arrays = {f"before{i}": _plain(array) for i, array in enumerate(before)}
        written = [i for i, a in enumerate(kernel.arguments) if a.access is not Access.READ]
        arrays |= {f"after{i}": _plain(after[i]) for i in written}
        digest = hashlib.sha256(kernel.source.encode())
        for array in arrays.values():
            digest.update(array.tobytes())
        path = self.folder / digest.hexdigest()[:20]
        if path.with_suffix(".json").exists():
            return
        self.counted[test] += 1
        with path.with_suffix(".npz").open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        about = _about(kernel)
        path.with_suffix(".json").write_text(json.dumps({"test": test, "kernel": about}))


def _about(kernel: Kernel) -> dict[str, object]:
    """What compiling and launching it takes."""
    listed = [asdict(argument) for argument in kernel.arguments]
    return {name: getattr(kernel, name) for name in _FIELDS} | {"arguments": listed}


def _plain(array: Array) -> Array:
    flat = np.ascontiguousarray(array).reshape(-1)
    if flat.dtype.isbuiltin == 1:  # Numpy's own.
        return flat
    return flat.view(f"uint{8 * flat.dtype.itemsize}")
