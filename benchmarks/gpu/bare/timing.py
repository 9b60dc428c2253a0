"""Seconds and joules of something that runs on the GPU; the same for every contender."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from benchmarks.gpu.bare.case import AbsentError
from gcompile.energy.meters.measure import Plan, measure
from gcompile.energy.meters.nvml import NvmlMeter

Call = Callable[[], object]
"""One inference; it returns when the results are there."""

Queue = Callable[[int], None]
"""So many inferences, one after the other; it returns when the last one is done."""

_WARM_S = 0.3
_LATENCY_S = 1.0
_ROUND_S = 0.2
_ROUNDS = 5
_PLAN = Plan(window_s=2.0, repeats=2, warmup_s=1.0, settling_windows=0)


def timed(call: Call, queue: Queue) -> dict[str, Any]:
    """Latency of single calls, and seconds per inference where many are queued at once."""
    _repeat(call, _WARM_S)
    singles = _repeat(call, _LATENCY_S)
    count = max(1, int(_ROUND_S / statistics.median(singles)))
    rounds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        queue(count)
        rounds.append((time.perf_counter() - start) / count)
    return {
        "latency_s": statistics.median(singles),
        "latency_p95_s": sorted(singles)[int(0.95 * (len(singles) - 1))],
        "queued_s": statistics.median(rounds),
        "runs": len(singles),
    }


def joules(queue: Queue, device: int) -> dict[str, Any]:
    """Joules per inference by NVML's counter over windows of seconds, idle power included.

    Raises:
        AbsentError: The card or its driver has no counter.
    """
    meter = NvmlMeter(device)
    if reason := meter.why_unavailable():
        raise AbsentError(reason)
    queue(1)
    start = time.perf_counter()
    queue(4)
    count = max(1, int(4 * _ROUND_S / max(time.perf_counter() - start, 1e-6)))
    found = measure(lambda: queue(count), meter, _PLAN, inferences=count)
    return {
        "energy_j": found.joules_per_inference,
        "stdev_j": found.stdev_j,
        "power_w": found.power_w,
        "idle_w": found.idle_w,
        "above_idle_j": (found.power_w - found.idle_w) * found.seconds_per_inference,
        "windows": found.repeats,
        "window_s": found.window_s,
    }


def _repeat(call: Call, seconds: float) -> list[float]:
    """Seconds of each call, for so long, at least five."""
    found: list[float] = []
    end = time.perf_counter() + seconds
    while len(found) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return found
