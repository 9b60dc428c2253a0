"""Whether a machine has the instructions an artefact was compiled for.

Running native code on a CPU without them ends the process with an illegal instruction, so the
question is asked before anything is loaded.
"""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Iterable
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_HWCAP, _HWCAP2 = 16, 26
_ARM_FLAGS = {
    (_HWCAP, 1): "asimd",
    (_HWCAP, 9): "fphp",
    (_HWCAP, 10): "asimdhp",
    (_HWCAP, 20): "asimddp",
    (_HWCAP, 22): "sve",
    (_HWCAP, 23): "asimdfhm",
    (_HWCAP2, 13): "i8mm",
    (_HWCAP2, 14): "bf16",
}
"""Word of the auxiliary vector and bit in it: `arch/arm64/include/uapi/asm/hwcap.h` of Linux."""


def host_platform() -> str:
    """The operating system and architecture, such as `linux-x86_64`."""
    return f"{platform.system()}-{platform.machine()}".lower()


def cpu_flags(cpuinfo: Path | None = None) -> frozenset[str]:
    """The flags of the CPU as Linux spells them; none where it does not tell.

    Args:
        cpuinfo: What to read in place of `/proc/cpuinfo`. Where nothing is given, an ARM kernel is
            asked itself: an emulator answers that for the machine it emulates, while the file is
            the one of the machine underneath.
    """
    if cpuinfo is None and host_platform() == "linux-aarch64":
        return _arm_flags()
    cpuinfo = cpuinfo or _CPUINFO
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _arm_flags() -> frozenset[str]:
    ask = ctypes.CDLL(None).getauxval
    ask.restype, ask.argtypes = ctypes.c_ulong, [ctypes.c_ulong]
    return frozenset(flag for (word, bit), flag in _ARM_FLAGS.items() if ask(word) >> bit & 1)


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
