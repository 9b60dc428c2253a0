"""The same artefacts on a real GPU, where there is one: `pytest -m gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile import runtime
from gcompile.backends.cuda.build import generate
from gcompile.errors import BackendUnavailableError
from gcompile.runtime.cuda.driver import driver
from gcompile.runtime.cuda.runner import CudaRunner
from gcompile.targets import load_target
from tests.compiler.task import task
from tests.runtime.cuda.conftest import needs_nvrtc


def _architecture() -> str:
    """The described target with the architecture of the first GPU, or "" where there is no GPU."""
    try:
        found = driver().device(0)
    except BackendUnavailableError:
        return ""
    named = {75: "nvidia-t4", 80: "nvidia-a100", 86: "nvidia-a10", 89: "nvidia-l4"}
    named |= {87: "nvidia-jetson-agx-orin", 90: "nvidia-h100", 100: "nvidia-b200"}
    return named.get(10 * found.major + found.minor, "nvidia-a100")


pytestmark = [
    pytest.mark.gpu,
    needs_nvrtc,
    pytest.mark.skipif(not _architecture(), reason="no NVIDIA GPU is here"),
]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
def test_machine_code_gives_what_the_cpu_forms_give(tmp_path: Path, precision: str) -> None:
    name, folder = _architecture(), tmp_path / "out"
    if precision not in load_target(name).precisions:
        pytest.skip(f"{name} does not compute in {precision}")
    built = gcompile.compile(
        task().model, name, precision=precision, calib=task().calib, output=folder
    )
    assert built.report.verify.code_ran == "natively"
    runner = runtime.load(folder)
    assert isinstance(runner, CudaRunner)
    inputs = {"x": task().evaluate["x"][:1]}
    on_cpu = generate(built.model, load_target(name), 1).on_cpu
    assert on_cpu is not None
    for _ in range(3):  # Recorded launches give the same every time.
        got, want = runner.run(inputs)["y"], on_cpu(inputs)["y"]
        np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())
