"""Kernel tests run here by their CPU forms, and on a GPU where there is one: `pytest -m gpu`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from gcompile.errors import BackendUnavailableError
from gcompile.runtime.cuda.driver import driver
from tests.backends.cuda.launches_of_tests import launches_kernels, observed
from tests.backends.cuda.on_gpu import OnGpu
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
