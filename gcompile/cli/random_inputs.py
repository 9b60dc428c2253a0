"""Seeded inputs for timing an artefact, or for seeing that it runs; never for calibration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gcompile.runtime import TensorSpec


def random_inputs(specs: Iterable[TensorSpec], seed: int) -> dict[str, NDArray[Any]]:
    """Normal numbers for floats; 0 and 1 for whole numbers, which often are indices."""
    source = np.random.default_rng(seed)
    return {spec.name: _random(spec, source) for spec in specs}


def _random(spec: TensorSpec, source: np.random.Generator) -> NDArray[Any]:
    dtype = np.dtype(spec.dtype)
    if dtype.kind == "f":
        return np.asarray(source.standard_normal(spec.shape), dtype)
    return np.asarray(source.integers(0, 2, spec.shape), dtype)
