"""An artefact for a GPU, and a driver that runs its kernels on the CPU."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile.backends.cuda.build import generate
from gcompile.backends.cuda.host_form import build_library
from gcompile.backends.cuda.kernel import Kernel
from gcompile.runtime.cuda.driver import LIBRARY_VARIABLE
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


class FakeDriver:
    """The library of `fake_driver.c`."""

    def __init__(self, path: Path) -> None:
        self.library = ctypes.CDLL(str(path))
        self.become()

    def become(
        self, devices: int = 1, arch: int = 80, version: int = 12040, free: int = 1 << 30
    ) -> None:
        """Be another machine from now on."""
        major, minor = divmod(arch, 10)
        self.library.fake_machine(devices, major, minor, version, ctypes.c_size_t(free))

    def know(self, kernels: list[Kernel], folder: Path) -> None:
        """Be able to run these kernels; what was counted is forgotten."""
        self.library.fake_library(str(build_library(kernels, folder)).encode())
        for kernel in kernels:
            self.library.fake_kernel(kernel.name.encode(), len(kernel.arguments))

    def count(self, what: str) -> int:
        """How many `launches`, `graph_launches`, `live_allocations` or `loads` there were."""
        return int(getattr(self.library, f"fake_{what}")())


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver, compiled."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    path = tmp_path_factory.mktemp("driver") / "libcuda.so.1"
    source = Path(__file__).with_name("fake_driver.c")
    command = [compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(path), "-ldl"]
    subprocess.run(command, check=True)
    return path


@pytest.fixture
def fake(fake_library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """A machine with one fake A100."""
    monkeypatch.setenv(LIBRARY_VARIABLE, str(fake_library))
    driver = FakeDriver(fake_library)
    yield driver
    driver.become()


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
