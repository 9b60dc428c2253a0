"""NVRTC: CUDA C text to machine code, with no GPU, no driver and no CUDA toolkit.

The library comes in NVIDIA's wheel `nvidia-cuda-nvrtc-cu12` (or `nvidia-cuda-nvrtc` for CUDA 13)
or in an installed toolkit. See https://docs.nvidia.com/cuda/nvrtc.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from gcompile.errors import BackendUnavailableError, CompileError

REMEDY = "pip install 'gcompile[cuda]'"

_WHEELS = ("nvidia.cuda_nvrtc", "nvidia.cu13", "nvidia.cu12")
_PATTERN = "libnvrtc.so.[0-9]*"
_RESOURCES = re.compile(r"Used (\d+) registers")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_SHARED = re.compile(r"(\d+) bytes smem")


@dataclass(frozen=True)
class MachineCode:
    """One kernel for one architecture.

    Attributes:
        cubin: Machine code, an ELF file.
        ptx: The same for just-in-time compilers of newer GPUs.
        registers: Of one thread.
        spilled_bytes: Stored to and loaded from memory for want of registers, by one thread.
        shared_bytes: Shared memory of a block that the text declares.
    """

    cubin: bytes
    ptx: bytes
    registers: int
    spilled_bytes: int
    shared_bytes: int


class Nvrtc:
    """The library, loaded. Made by `nvrtc`."""

    def __init__(self, path: Path) -> None:
        """Load the library; its companion `libnvrtc-builtins` lies beside it."""
        self.path = path
        self._library = ctypes.CDLL(str(path))

    @property
    def version(self) -> tuple[int, int]:
        """The CUDA version, such as (12, 9)."""
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._check(self._library.nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
        return major.value, minor.value

    @property
    def architectures(self) -> tuple[int, ...]:
        """What it generates code for: 80 for sm_80."""
        count = ctypes.c_int()
        self._check(self._library.nvrtcGetNumSupportedArchs(ctypes.byref(count)))
        found = (ctypes.c_int * count.value)()
        self._check(self._library.nvrtcGetSupportedArchs(found))
        return tuple(found)

    def check(self, arch: int) -> None:
        """Raise unless it generates code for an architecture.

        Raises:
            BackendUnavailableError: It is too old, or too new.
        """
        known = self.architectures
        if arch not in known:
            major, minor = self.version
            raise BackendUnavailableError(
                f"NVRTC {major}.{minor} generates code for sm_{min(known)} to sm_{max(known)} and "
                f"not for sm_{arch}; install another one with `{REMEDY}`."
            )

    def compile(self, source: str, name: str, arch: str) -> MachineCode:
        """Compile one kernel.

        Args:
            source: CUDA C that includes no header.
            name: The kernel's symbol, for messages.
            arch: `80` for sm_80, `90a` for sm_90a.

        Raises:
            CompileError: The text is not CUDA C, or the architecture is unknown.
        """
        options = [f"--gpu-architecture=sm_{arch}", "--std=c++17", "--ptxas-options=-v"]
        program = ctypes.c_void_p()
        self._check(
            self._library.nvrtcCreateProgram(
                ctypes.byref(program), source.encode(), f"{name}.cu".encode(), 0, None, None
            )
        )
        try:
            encoded = [option.encode() for option in options]
            result = self._library.nvrtcCompileProgram(
                program, len(encoded), (ctypes.c_char_p * len(encoded))(*encoded)
            )
            log = self._bytes(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            if result:
                raise CompileError(_problem(name, arch, log))
            return MachineCode(
                self._bytes(program, "CUBIN"),
                self._bytes(program, "PTX").rstrip(b"\0"),
                max((int(count) for count in _RESOURCES.findall(log)), default=0),
                sum(int(a) + int(b) for a, b in _SPILLS.findall(log)),
                max((int(count) for count in _SHARED.findall(log)), default=0),
            )
        finally:
            self._library.nvrtcDestroyProgram(ctypes.byref(program))

    def _bytes(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._check(getattr(self._library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
        buffer = ctypes.create_string_buffer(size.value)
        self._check(getattr(self._library, f"nvrtcGet{what}")(program, buffer))
        return buffer.raw

    def _check(self, result: int) -> None:
        if result:
            message = self._library.nvrtcGetErrorString
            message.restype = ctypes.c_char_p
            raise CompileError(f"NVRTC failed: {message(result).decode()}.")


@cache
def nvrtc() -> Nvrtc:
    """The newest NVRTC here.

    Raises:
        BackendUnavailableError: There is none.
    """
    for path in _candidates():
        try:
            return Nvrtc(path)
        except OSError:
            continue
    raise BackendUnavailableError(
        f"Building for NVIDIA GPUs needs NVRTC, which is not installed here; install it with "
        f"`{REMEDY}`."
    )


def _candidates() -> Iterator[Path]:
    """Wheels first: their version is what the constraints name."""
    for wheel in _WHEELS:
        for folder in _package_folders(wheel):
            yield from sorted((folder / "lib").glob(_PATTERN))
    for variable in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(variable):
            yield from sorted(Path(os.environ[variable]).glob(f"lib64/{_PATTERN}"))
    yield from sorted(Path("/usr/local/cuda/lib64").glob(_PATTERN))
    found = ctypes.util.find_library("nvrtc")
    if found:
        yield Path(found)


def _package_folders(name: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:
        return []
    return [Path(place) for place in (spec.submodule_search_locations if spec else None) or ()]


def _problem(name: str, arch: str, log: str) -> str:
    lines = [line for line in log.splitlines() if "error" in line] or log.splitlines()
    return (
        f"NVRTC refused the kernel {name} for sm_{arch} ({(lines or ['?'])[0][:300]}); please "
        "report this model as a bug."
    )
