"""An artefact for a GPU."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile.backends.cuda.build import generate
from gcompile.backends.cuda.kernel import Kernel
from gcompile.targets import load_target
from tests.compiler.task import task

TARGET = "nvidia-a100-sxm-80"
HAS_NVRTC = any(
    importlib.util.find_spec("nvidia") and importlib.util.find_spec(name)
    for name in ("nvidia.cuda_nvrtc", "nvidia.cu13")
)
needs_nvrtc = pytest.mark.skipif(not HAS_NVRTC, reason="NVRTC is not installed: gcompile[cuda]")


@dataclass(frozen=True)
class Built:
    """An artefact, its kernels, and what it computes."""

    folder: Path
    kernels: list[Kernel]
    inputs: dict[str, np.ndarray]
    expected: dict[str, np.ndarray]


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A small network as an artefact for an A100."""
    if not HAS_NVRTC:
        pytest.skip("NVRTC is not installed: gcompile[cuda]")
    folder = tmp_path_factory.mktemp("cuda") / "artefact"
    compiled = gcompile.compile(task().model, TARGET, output=folder)
    code = generate(compiled.model, load_target(TARGET), 1)
    inputs = {"x": task().evaluate["x"][:1]}
    assert code.on_cpu is not None
    return Built(folder, code.program.kernels, inputs, dict(code.on_cpu(inputs)))
