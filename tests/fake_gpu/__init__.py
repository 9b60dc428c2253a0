"""A CUDA driver and an NVML without a GPU, compiled for this machine's CPU."""

from __future__ import annotations

import ctypes
import mmap
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from gcompile.backends.cuda.host_form import build_library
from gcompile.backends.cuda.kernel import Kernel
from gcompile.runtime.cuda import driver as cuda
from gcompile.runtime.cuda import nvml

CARD_VARIABLE = "FAKE_NVML_CARD"
KERNELS_VARIABLE = "FAKE_CUDA_KERNELS"


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

    def know(self, kernels: Sequence[Kernel], folder: Path) -> None:
        """Be able to run these kernels; what was counted is forgotten."""
        self.library.fake_library(str(build_library(kernels, folder)).encode())
        for kernel in kernels:
            self.library.fake_kernel(kernel.name.encode(), len(kernel.arguments))

    def describe(self, kernels: Sequence[Kernel], folder: Path) -> Path:
        """Write down how to run these kernels, for processes with `KERNELS_VARIABLE`."""
        lines = [str(build_library(kernels, folder))]
        lines += (f"{kernel.name} {len(kernel.arguments)}" for kernel in kernels)
        path = folder / "kernels.txt"
        path.write_text("\n".join(lines) + "\n")
        return path

    def count(self, what: str) -> int:
        """How many there were or are now.

        Args:
            what: `launches`, `graph_launches`, `loads`, `waits`; `live_allocations`,
                `live_modules`, `live_streams`, `live_events`.
        """
        return int(getattr(self.library, f"fake_{what}")())


class _Card(ctypes.Structure):
    _fields_ = (
        ("power_w", ctypes.c_double),
        ("limit_mw", ctypes.c_uint),
        ("default_mw", ctypes.c_uint),
        ("lowest_mw", ctypes.c_uint),
        ("highest_mw", ctypes.c_uint),
        ("clock_mhz", ctypes.c_uint),
        ("has_counter", ctypes.c_int),
        ("is_administrator", ctypes.c_int),
    )


class FakeCard:
    """The card of `fake_nvml.c`: 120 W drawn, limits of 100 to 400 W, an administrator asks."""

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(ctypes.sizeof(_Card)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.state = _Card.from_buffer(self._memory)
        self.state.power_w, self.state.clock_mhz = 120.0, 1410
        self.state.limit_mw = self.state.default_mw = self.state.highest_mw = 400_000
        self.state.lowest_mw, self.state.has_counter = 100_000, 1
        self.state.is_administrator = 1

    @property
    def limit_w(self) -> float:
        """What holds now."""
        return float(self.state.limit_mw) / 1e3


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The driver, compiled."""
    return _compiled("fake_driver.c", tmp_path_factory.mktemp("driver") / "libcuda.so.1")


@pytest.fixture(scope="session")
def fake_nvml_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """NVML, compiled."""
    return _compiled("fake_nvml.c", tmp_path_factory.mktemp("nvml") / "libnvidia-ml.so.1")


@pytest.fixture
def fake(fake_library: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """A machine with one fake A100."""
    monkeypatch.setenv(cuda.LIBRARY_VARIABLE, str(fake_library))
    driver = FakeDriver(fake_library)
    yield driver
    driver.become()


@pytest.fixture
def fake_card(
    fake: FakeDriver, fake_nvml_library: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FakeCard]:
    """The same A100 as NVML shows it."""
    card = FakeCard(tmp_path / "card")
    monkeypatch.setenv(CARD_VARIABLE, str(tmp_path / "card"))
    monkeypatch.setenv(nvml.LIBRARY_VARIABLE, str(fake_nvml_library))
    nvml.opened.cache_clear()
    yield card
    nvml.opened.cache_clear()


def _compiled(source: str, path: Path) -> Path:
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is installed")
    file = Path(__file__).with_name(source)
    command = [compiler, "-shared", "-fPIC", "-O1", str(file), "-o", str(path), "-ldl"]
    subprocess.run(command, check=True)
    return path
