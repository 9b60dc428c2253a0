"""Honest comparisons on noisy machines: interleaved calls, CPU time, medians."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Samples:
    """What was measured of one contender, in seconds per call."""

    cpu_s: list[float] = field(default_factory=list)
    wall_s: list[float] = field(default_factory=list)

    @property
    def cpu_median_s(self) -> float:
        """Median CPU time of the whole process per call."""
        return statistics.median(self.cpu_s)

    @property
    def wall_median_s(self) -> float:
        """Median wall time per call."""
        return statistics.median(self.wall_s)


def interleave(
    calls: Mapping[str, Callable[[], object]], rounds: int = 30, slice_s: float = 0.02
) -> dict[str, Samples]:
    """Time all calls in turn, round after round, so that noise hits all of them alike.

    Args:
        calls: What to time, by name.
        rounds: How often each gets its turn.
        slice_s: About how long one turn lasts; quick calls repeat within it.
    """
    repeats = {name: _repeats(call, slice_s) for name, call in calls.items()}
    samples = {name: Samples() for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(repeats[name]):
                call()
            samples[name].cpu_s.append((time.process_time() - cpu) / repeats[name])
            samples[name].wall_s.append((time.perf_counter() - wall) / repeats[name])
    return samples


def machine() -> str:
    """The processor and the number of CPUs, to stand beside every figure."""
    facts = _cpuinfo()
    name = facts.get("model name") or facts.get("Model") or platform.machine()
    if "cpu family" in facts:
        name += f" (family {facts['cpu family']}, model {facts.get('model', '?')})"
    return f"{name}, {len(os.sched_getaffinity(0))} CPUs, {platform.system()}"


def _cpuinfo() -> dict[str, str]:
    """What Linux says of the first CPU; nothing elsewhere."""
    path = Path("/proc/cpuinfo")
    facts: dict[str, str] = {}
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else ():
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    return facts


def _repeats(call: Callable[[], object], slice_s: float) -> int:
    for _ in range(3):
        call()
    start = time.perf_counter()
    call()
    return max(1, int(slice_s / max(time.perf_counter() - start, 1e-7)))
