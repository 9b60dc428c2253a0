"""A compiled model on disk, opened for running."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gcompile import runtime
from gcompile.errors import UsageError
from gcompile.passes import Arrays

Array = NDArray[np.generic]


@dataclass(frozen=True)
class Artifact:
    """The folder a build wrote: run it here, or save it for elsewhere."""

    folder: Path

    @cached_property
    def runner(self) -> runtime.Runner:
        """The compiled code, loaded on first use."""
        return runtime.load(self.folder)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Run one inference; see `gcompile.runtime.Runner.run`."""
        return self.runner.run(inputs)

    def save(self, folder: str | Path) -> Path:
        """Copy the artefact to a folder that does not exist yet.

        Raises:
            UsageError: The folder exists.
        """
        try:
            return Path(shutil.copytree(self.folder, folder))
        except FileExistsError as error:
            raise UsageError(f"Folder {str(folder)!r} exists. Choose another.") from error
