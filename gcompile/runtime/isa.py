"""Whether a machine has the instructions an artefact was compiled for.

Running native code on a CPU without them ends the process with an illegal instruction, so the
question is asked before anything is loaded.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

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


def why_not_here(compiled_for: str, required: Iterable[str], flags: frozenset[str]) -> str:
    """Say why this machine cannot execute code; empty where it can.

    Args:
        compiled_for: The platform of the code, such as `linux-x86_64`.
        required: The CPU flags the code uses.
        flags: The CPU flags this machine has.
    """
    host = host_platform()
    if compiled_for != host:
        return f"it was compiled for {compiled_for} and this machine is {host}"
    missing = sorted(set(required) - flags)
    return f"it needs CPU instructions this machine lacks: {', '.join(missing)}" if missing else ""
