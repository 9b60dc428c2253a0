"""What the operating system says about the machine: plain facts, read below a root folder.

Linux tells all of it in `/proc/cpuinfo` and `/sys`. Other systems tell only their architecture
and the number of cores, and a note says so.
"""

from __future__ import annotations

import os
import platform
import re
from dataclasses import dataclass
from pathlib import Path

_MAX_CLOCK_KHZ = "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq"
_CACHE_SUFFIX = {"K": 1024, "M": 1024**2, "G": 1024**3}


@dataclass(frozen=True, slots=True)
class Cache:
    """One data or unified cache, as the first core sees it."""

    level: int
    size_bytes: int
    shared_by: int


@dataclass(frozen=True, slots=True)
class Machine:
    """The processor as the system describes it.

    Attributes:
        vendor: `AuthenticAMD`, `GenuineIntel`, or an ARM implementer such as `0x41`.
        family: CPU family; 0 on ARM.
        model: CPU model, or the ARM part number.
        max_clock_hz: The highest clock the system may set; 0 when it does not say.
        clock_hz: The clock the system reports now; in a virtual machine often only the timer's.
        usable_cores: Cores this process may use: affinity and container quota count.
        note: What could not be read, as a sentence; empty when all could.
    """

    vendor: str
    family: int
    model: int
    model_name: str
    flags: frozenset[str]
    max_clock_hz: float
    clock_hz: float
    usable_cores: int
    caches: tuple[Cache, ...]
    dram_bytes: float
    note: str = ""


def read_machine(root: Path = Path("/"), cores: int | None = None) -> Machine:
    """Read the machine's facts below `root`; `cores` replaces what this process may use."""
    usable = cores or _usable_cores(root)
    cpuinfo = root / "proc/cpuinfo"
    if not cpuinfo.is_file():
        return _without_linux(usable)
    fields = _first_processor(cpuinfo.read_text(encoding="utf-8", errors="replace"))
    return Machine(
        vendor=fields.get("vendor_id") or fields.get("CPU implementer", ""),
        family=_number(fields.get("cpu family")),
        model=_number(fields.get("model") or fields.get("CPU part")),
        model_name=fields.get("model name") or platform.machine(),
        flags=frozenset((fields.get("flags") or fields.get("Features", "")).split()),
        max_clock_hz=1e3 * float(_text(root / _MAX_CLOCK_KHZ) or 0),
        clock_hz=1e6 * float(fields.get("cpu MHz", 0)),
        usable_cores=usable,
        caches=_caches(root),
        dram_bytes=_dram(root),
    )


def _without_linux(cores: int) -> Machine:
    name = platform.machine().lower()
    is_arm = name in ("arm64", "aarch64")
    flags = frozenset({"asimd", "asimddp"} if is_arm and platform.system() == "Darwin" else ())
    vendor = platform.system() if is_arm else ""
    note = f"{platform.system()} does not tell its processor's features; the baseline is assumed."
    model = platform.processor() or name
    return Machine(vendor, 0, 0, model, flags, 0.0, 0.0, cores, (), 0.0, note)


def _first_processor(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    return fields


def _number(text: str | None) -> int:
    return int(text, 0) if text else 0


def _caches(root: Path) -> tuple[Cache, ...]:
    found = []
    for index in sorted((root / "sys/devices/system/cpu/cpu0/cache").glob("index*")):
        size = re.fullmatch(r"(\d+)([KMG]?)", _text(index / "size"))
        if size is None or _text(index / "type") == "Instruction":
            continue
        amount = int(size[1]) * _CACHE_SUFFIX.get(size[2], 1)
        shared = _count(_text(index / "shared_cpu_list"))
        found.append(Cache(int(_text(index / "level")), amount, shared))
    return tuple(sorted(found, key=lambda cache: cache.level))


def _count(cpu_list: str) -> int:
    """Count the processors of a list such as `0-3,8`."""
    total = 0
    for part in filter(None, cpu_list.split(",")):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return max(total, 1)


def _dram(root: Path) -> float:
    match = re.search(r"MemTotal:\s+(\d+) kB", _text(root / "proc/meminfo"))
    return float(match[1]) * 1024 if match else 0.0


def _usable_cores(root: Path) -> int:
    if hasattr(os, "sched_getaffinity"):
        cores = _physical_cores(root, os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota, _, period = _text(root / "sys/fs/cgroup/cpu.max").partition(" ")
    if quota.isdigit() and period.isdigit():
        cores = min(cores, max(1, int(quota) // int(period)))
    return cores


def _physical_cores(root: Path, processors: set[int]) -> int:
    """Count cores, not hardware threads: the threads of one core share its units."""
    folder = root / "sys/devices/system/cpu"
    return len({_text(folder / f"cpu{i}/topology/thread_siblings_list") or i for i in processors})


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
