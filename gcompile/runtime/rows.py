"""Run an artefact in its own process: `python -m gcompile.runtime.rows FOLDER VARIANT IN OUT`.

Where a compiler cannot run the code it made, it starts this under an emulator. IN and OUT are .npz
files: IN has one array per input in the manifest's order, inferences along its first axis, and OUT
the outputs of one inference after the other.
"""

from __future__ import annotations

import sys

import numpy as np

from gcompile.errors import GcompileError
from gcompile.runtime.load import load


def run_rows(folder: str, variant: str, inputs: str, outputs: str) -> None:
    """Run every inference of the file `inputs` and write the results to the file `outputs`.

    Raises:
        ArtifactError: The artefact does not run on the machine that executes this.
        RunError: The inputs do not fit.
    """
    runner = load(folder, variant=variant)
    with np.load(inputs) as given:
        columns = [given[f"arr_{index}"] for index in range(len(runner.inputs))]
    names = [spec.name for spec in runner.inputs]
    found = [runner.run(dict(zip(names, row, strict=True))) for row in zip(*columns, strict=True)]
    returned = runner.entry_point.returned
    np.savez(outputs, *(row[spec.name] for row in found for spec in returned))


if __name__ == "__main__":
    try:
        run_rows(*sys.argv[1:5])
    except GcompileError as error:
        sys.exit(str(error))
