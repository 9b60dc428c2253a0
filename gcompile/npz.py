"""Arrays in `.npz` files: read without ever unpickling, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcompile.errors import UsageError

Array = NDArray[Any]


def read_arrays(path: Path) -> dict[str, Array]:
    """Read every array of the file.

    Raises:
        UsageError: The file is missing, is no `.npz`, or holds Python objects.
    """
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise UsageError(f"{str(path)!r} holds one bare array; save it with np.savez.")
            return {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise UsageError(f"Data file {str(path)!r} does not exist.") from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UsageError(
            f"Data file {str(path)!r} cannot be read as .npz with plain arrays. "
            "Write it with np.savez(path, input_name=array)."
        ) from error


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write the arrays, one per name.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}.") from error
    staging = Path(name)
    try:
        with os.fdopen(handle, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            for key, array in arrays.items():
                with archive.open(f"{key}.npy", "w", force_zip64=True) as entry:
                    np.lib.format.write_array(entry, np.asanyarray(array), allow_pickle=False)
        staging.chmod(0o644)
        staging.replace(path)
    except BaseException:
        staging.unlink(missing_ok=True)
        raise
