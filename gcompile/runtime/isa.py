"""Whether a machine has the instructions an artefact was compiled for.

Running native code on a CPU without them ends the process with an illegal instruction, so the
question is asked before anything is loaded.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from gcompile.errors import ArtifactError

_CPUINFO = Path("/proc/cpuinfo")


def host_platform() -> str:
    """The operating system and architecture, such as `linux-x86_64`."""
    return f"{platform.system()}-{platform.machine()}".lower()


def cpu_flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """The flags of the first CPU as Linux lists them; none where there is no such file."""
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def check_machine(compiled_for: str, required: Iterable[str], flags: frozenset[str]) -> None:
    """Refuse code that this machine cannot execute.

    Args:
        compiled_for: The platform of the code, such as `linux-x86_64`.
        required: The CPU flags the code uses.
        flags: The CPU flags this machine has.

    Raises:
        ArtifactError: The platform differs or flags are missing; the message names them.
    """
    host = host_platform()
    if compiled_for != host:
        raise ArtifactError(
            f"The artefact was compiled for {compiled_for} and this machine is {host}; "
            "compile the model for this machine."
        )
    missing = sorted(set(required) - flags)
    if missing:
        raise ArtifactError(
            f"The artefact needs CPU instructions this machine lacks: {', '.join(missing)}; "
            "compile the model for this machine with `--target cpu`."
        )
