"""Machine code of tile programs, and which instructions it has. Needs no GPU."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from gcompile.backends.cuda.program.cuda_text import cuda_text
from gcompile.backends.cuda.program.program import Program
from gcompile.backends.cuda.toolchain import MachineCode, nvrtc
from gcompile.errors import BackendUnavailableError


def compiled(program: Program, arch: str) -> MachineCode:
    """Compile, or skip the test where NVRTC is not installed."""
    try:
        compiler = nvrtc()
    except BackendUnavailableError as error:
        pytest.skip(str(error))
    return compiler.compile(cuda_text(program), program.name, arch)


def instructions(code: MachineCode, folder: Path) -> Counter[str]:
    """Count the instructions by name, or skip where `nvdisasm` is not installed."""
    tool = _nvdisasm()
    if tool is None:
        pytest.skip("nvdisasm is not installed; `pip install nvidia-cuda-nvdisasm`.")
    path = folder / "kernel.cubin"
    path.write_bytes(code.cubin)
    listing = subprocess.run(
        [tool, "-c", str(path)], check=True, capture_output=True, text=True
    ).stdout
    found = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9]*)", listing)
    return Counter(found)


def _nvdisasm() -> str | None:
    for package in ("nvidia.cu13", "nvidia.cu12", "nvidia.cuda_nvdisasm"):
        try:
            spec = importlib.util.find_spec(package)
        except ModuleNotFoundError:
            continue
        for folder in (spec.submodule_search_locations if spec else None) or ():
            if (Path(folder) / "bin" / "nvdisasm").is_file():
                return str(Path(folder) / "bin" / "nvdisasm")
    return shutil.which("nvdisasm")
