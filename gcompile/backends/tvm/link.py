"""Link object files into a shared library, for this machine or for one of another architecture.

A library for another machine refers to nothing but TVM's runtime and the C library, which the
process that loads it has loaded before. So no headers and no libraries of that machine are needed,
only a linker that writes its format.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tvm.relax.vm_build import VMExecutable

from gcompile.errors import CompileError
from gcompile.runtime.isa import host_platform

_BARE = ("-shared", "--hash-style=gnu")
_COMPILER = ("-shared", "-nostdlib", "-fPIC")


def link_library(executable: VMExecutable, path: Path, platform: str) -> None:
    """Link the code of a module into a shared library.

    Args:
        executable: The code.
        path: The file to write.
        platform: Where the library will be loaded, such as `linux-aarch64`.

    Raises:
        CompileError: There is no linker for that platform, or it failed.
    """
    if platform == host_platform():
        executable.export_library(str(path))
        return
    command = cross_linker(platform)

    def link(output: str, objects: Sequence[str], **options: object) -> None:
        done = subprocess.run(
            [*command, "-o", output, *objects], capture_output=True, text=True, check=False
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
            raise CompileError(f"{command[0]} could not link for {platform}: {lines[-1][:300]}.")

    executable.export_library(str(path), fcompile=link)


def cross_linker(platform: str) -> tuple[str, ...]:
    """The command that links a shared library for another platform.

    Raises:
        CompileError: None is installed; the message names what to install.
    """
    architecture = platform.partition("-")[2]
    triple = f"{architecture}-linux-gnu"
    candidates: tuple[tuple[str, ...], ...] = (
        (f"{triple}-ld", *_BARE),
        ("ld.lld", *_BARE),
        (f"{triple}-gcc", *_COMPILER),
        ("zig", "cc", "-target", triple, *_COMPILER),
        ("clang", f"--target={triple}", "-fuse-ld=lld", *_COMPILER),
    )
    found = next((command for command in candidates if shutil.which(command[0])), None)
    if found is None and importlib.util.find_spec("ziglang"):
        found = (sys.executable, "-m", "ziglang", "cc", "-target", triple, *_COMPILER)
    if found is None:
        raise CompileError(
            f"Nothing here links code for {platform}: install lld, binutils-{triple} or zig "
            "(`pip install ziglang`)."
        )
    return found
