"""Open a CUDA variant of an artefact, whose manifest and files have been checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from gcompile.errors import ArtifactError, BackendUnavailableError
from gcompile.runtime.cuda.driver import driver
from gcompile.runtime.cuda.plan import Plan
from gcompile.runtime.cuda.runner import CudaRunner
from gcompile.runtime.cuda.session import open_session
from gcompile.runtime.entry_point import EntryPoint, TensorSpec
from gcompile.runtime.manifest import Manifest, Variant
from gcompile.runtime.runner import stored_dtype
from gcompile.runtime.untrusted import REMEDY
from gcompile.runtime.weights import Array


def open_cuda(
    folder: Path,
    manifest: Manifest,
    point: EntryPoint,
    variant: Variant,
    weights: Sequence[Array],
    device: int,
) -> CudaRunner:
    """Load a variant into a GPU.

    Args:
        folder: The artefact.
        manifest: What it says of itself.
        point: The entry point that the variant is code for.
        variant: The variant.
        weights: Its weights, in its order.
        device: Which GPU, as the driver counts.

    Raises:
        ArtifactError: The plan is damaged, or the GPU or its driver cannot run the code.
        RunError: There is no such GPU, or too little memory is free in it.
    """
    inputs, outputs = _sizes(point.inputs), _sizes(point.outputs)
    plan = Plan.read(
        folder / variant.library,
        {"weight": [array.nbytes for array in weights], "input": inputs, "output": outputs},
    )
    for code in plan.codes:
        if code.file not in manifest.files:
            raise ArtifactError(f"The artefact's plan names a file that is not its own. {REMEDY}")
    try:
        found = driver()
    except BackendUnavailableError as error:
        raise ArtifactError(f"The artefact cannot run here: {error}.") from error
    sizes = {"input": inputs, "output": outputs}
    session = open_session(found, device, plan, folder, weights, sizes)
    return CudaRunner(manifest, point, variant, session)


def _sizes(specs: Iterable[TensorSpec]) -> list[int]:
    return [math.prod(spec.shape) * np.dtype(stored_dtype(spec)).itemsize for spec in specs]
