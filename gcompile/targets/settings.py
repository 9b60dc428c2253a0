"""The same device at another power limit or clock."""

from __future__ import annotations

from dataclasses import replace

from gcompile.errors import UsageError
from gcompile.targets.target import Memory, Target, Unit


def with_power_limit(target: Target, limit_w: float) -> Target:
    """Return the target holding another power limit.

    Args:
        target: A target that describes its power.
        limit_w: The limit of the device itself, in watts.

    Raises:
        UsageError: The target describes no limit, or this one cannot be set.
    """
    power = target.power
    if power is None:
        raise UsageError(f"{target.name} describes no power limit. Add a [power] table to it.")
    high = power.highest_limit_w or power.limit_w
    if not max(power.lowest_limit_w, target.static_w) <= limit_w <= high:
        raise UsageError(
            f"{target.name} holds limits from {power.lowest_limit_w:g} to {high:g} W, "
            f"not {limit_w:g} W."
        )
    return replace(target, power=replace(power, limit_w=limit_w))


def with_clock(target: Target, clock_hz: float) -> Target:
    """Return the target with its cores and caches at another clock; main memory keeps its own.

    Dynamic power of the cores goes with clock^n (`Power.exponent`), so energy goes with
    clock^(n - 1).

    Raises:
        UsageError: The target describes no exponent, or the clock is above its own.
    """
    if target.power is None or not 0 < clock_hz <= target.clock_hz:
        raise UsageError(
            f"{target.name} runs at {target.clock_hz / 1e6:g} MHz; it cannot be described at "
            f"{clock_hz / 1e6:g} MHz."
        )
    speed = clock_hz / target.clock_hz
    energy = speed ** (target.power.exponent - 1)
    *caches, dram = target.memories
    return replace(
        target,
        clock_hz=clock_hz,
        units=tuple(_slower_unit(unit, speed, energy) for unit in target.units),
        memories=(*(_slower_cache(cache, speed, energy) for cache in caches), dram),
    )


def _slower_unit(unit: Unit, speed: float, energy: float) -> Unit:
    return replace(
        unit,
        peak_ops_per_s=unit.peak_ops_per_s * speed,
        sparse_ops_per_s=unit.sparse_ops_per_s * speed,
        op_j=unit.op_j * energy,
    )


def _slower_cache(cache: Memory, speed: float, energy: float) -> Memory:
    return replace(
        cache,
        bytes_per_s=cache.bytes_per_s * speed,
        core_bytes_per_s=cache.core_bytes_per_s * speed,
        byte_j=cache.byte_j * energy,
    )
