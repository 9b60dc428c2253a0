"""Write an artefact folder whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gcompile.errors import UsageError

_MARKER = "manifest.json"


@contextmanager
def artifact_folder(output: str | Path) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `output` when the block ends without an error.

    An artefact that is already there is replaced in one step; anything else is left alone. After
    an error or an interruption `output` is as it was.

    Raises:
        UsageError: `output` holds something that is not an artefact, or cannot be written.
    """
    output = Path(os.path.abspath(output))
    check_output(output)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{output.name}-", dir=output.parent))
    except OSError as error:
        raise UsageError(
            f"Output folder {str(output)!r} cannot be made: {error.strerror}. "
            "Choose another with -o."
        ) from error
    try:
        yield staging
        _publish(staging, output)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_output(output: str | Path) -> None:
    """Make sure that writing an artefact to `output` destroys nothing else.

    Raises:
        UsageError: `output` is a file, or a folder of something else.
    """
    output = Path(output)
    if not output.exists() and not output.is_symlink():
        return
    if not output.is_dir():
        raise UsageError(f"Output {str(output)!r} is not a folder. Choose another with -o.")
    if any(output.iterdir()) and not (output / _MARKER).is_file():
        raise UsageError(
            f"Output folder {str(output)!r} holds files that are not an artefact, and they would "
            "be replaced. Choose another folder with -o."
        )


def _publish(staging: Path, output: Path) -> None:
    staging.chmod(0o777 & ~_umask())
    if not output.exists():
        staging.rename(output)
        return
    retired = Path(tempfile.mkdtemp(prefix=f".{output.name}-old-", dir=output.parent))
    try:
        output.rename(retired / "was")
        try:
            staging.rename(output)
        except BaseException:
            (retired / "was").rename(output)
            raise
    finally:
        shutil.rmtree(retired, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
