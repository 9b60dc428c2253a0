"""Kernel tests run here by their CPU forms, and on a GPU where there is one: `pytest -m gpu`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from gcompile.backends.cuda.kernel import Access, Kernel
from gcompile.backends.cuda.toolchain import nvrtc
from gcompile.errors import BackendUnavailableError
from gcompile.runtime.cuda.driver import Driver, driver
from gcompile.runtime.cuda.one_launch import launch_once
from gcompile.runtime.cuda.plan import PlannedKernel
from tests.backends.cuda.launches_of_tests import Array, launches_kernels, observed
from tests.backends.cuda.record_launches import Recorder


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record-launches", type=Path, help="a folder for what tests launch")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test of kernels runs twice: as always, and on the device."""
    if not launches_kernels(metafunc.module):
        return
    on_gpu = pytest.param("gpu", marks=[pytest.mark.gpu])
    metafunc.parametrize("executed", ["cpu", on_gpu], indirect=True, scope="module")


@pytest.fixture(scope="module", autouse=True)
def executed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Where kernels run; on a GPU what it writes takes the place of what the CPU wrote."""
    folder = request.config.getoption("--record-launches", None)
    if getattr(request, "param", "cpu") == "gpu":
        try:
            found = driver()
            found.device(0)
        except BackendUnavailableError as error:
            pytest.skip(f"no GPU: {error}")
        with observed(OnGpu(found)):
            yield
    elif folder is not None:
        with observed(Recorder(folder)):
            yield
    else:
        yield


class OnGpu:
    """Launches on the device what ran on the CPU, so that a test judges the device's results."""

    def __init__(self, found: Driver) -> None:
        self.driver = found
        gpu = found.device(0)
        self.arch = 10 * gpu.major + gpu.minor

    def __call__(self, kernel: Kernel, before: list[Array], after: Sequence[Array]) -> None:
        needed = kernel.only_arch.rstrip("af") or self.arch
        if kernel.least_arch > self.arch or int(needed) != self.arch:
            return  # What ran on the CPU stays: this GPU does not have the kernel's instructions.
        arch = kernel.only_arch or str(self.arch)
        code = nvrtc().compile(kernel.source, kernel.name, arch)
        planned = PlannedKernel(
            kernel.name, kernel.grid, kernel.block, kernel.dynamic_shared_bytes
        )
        results = launch_once(self.driver, 0, code.cubin, planned, before)
        for argument, target, result in zip(kernel.arguments, after, results, strict=True):
            if argument.access is not Access.READ:
                np.copyto(target, result.reshape(target.shape))
