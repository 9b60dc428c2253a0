"""Describe the machine this runs on as a target.

The system tells the instruction sets, cores and caches; the table of microarchitectures tells what
a core does per cycle and draws. Nothing is measured, so the absolute uncertainty is wide.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gcompile.targets.machine import Machine, read_machine
from gcompile.targets.microarchitecture import Core, core_of, microarchitectures
from gcompile.targets.target import Memory, Source, Target
from gcompile.targets.units import units_of

_SYSTEM = Source("The operating system", "read")
_CLIENT_NAMES = ("Ryzen", "Threadripper", "Core(TM)")


def detect_host(root: Path = Path("/"), cores: int | None = None) -> Target:
    """Return the target `cpu`: this machine, or the one recorded below `root`.

    Args:
        root: Where `/proc` and `/sys` are found.
        cores: The cores to describe instead of those this process may use.
    """
    machine = read_machine(root, cores)
    core = core_of(machine)
    table = microarchitectures()
    clock_hz = machine.max_clock_hz or max(machine.clock_hz, core.clock_hz.value)
    count = machine.usable_cores
    running_w = table.default("running_share") * core.active_w.value
    launch_s = table.default("launch_s")
    return Target(
        name="cpu",
        kind="cpu",
        description=_description(machine, core, clock_hz),
        boundary="chip",
        isa=machine.flags,
        cores=count,
        clock_hz=clock_hz,
        units=units_of(machine.flags, core, count, clock_hz),
        memories=tuple(_memories(machine, core, clock_hz)),
        static_w=core.idle_w.value * count,
        launch_s=launch_s,
        launch_j=launch_s * (core.active_w.value - running_w),
        relative_error=table.default("relative_error"),
        is_host=True,
        sources=_sources(machine, core),
        parallel_launch_s=table.default("parallel_launch_s"),
        core_w=running_w,
        vector_efficiency=table.default("vector_efficiency"),
        is_shared=core.is_server and not any(n in machine.model_name for n in _CLIENT_NAMES),
        ratio_error=table.default("ratio_error"),
    )


def _description(machine: Machine, core: Core, clock_hz: float) -> str:
    seen = (
        f"{machine.model_name}: {machine.usable_cores} usable cores at {clock_hz / 1e9:.2f} GHz, "
        f"taken for {core.description}."
    )
    return f"{seen} {machine.note}".strip()


def _memories(machine: Machine, core: Core, clock_hz: float) -> Iterator[Memory]:
    """Yield the levels innermost first: what the system names, or a common size."""
    table, cores = microarchitectures(), machine.usable_cores
    device_hz = clock_hz * cores
    sizes = {cache.level: cache for cache in machine.caches}
    rates = {
        1: core.load_bits.value / 8,
        2: core.l2_bytes_per_cycle.value,
        3: core.l3_bytes_per_cycle.value,
    }
    last_rate = 0.0
    for level in (1, 2, 3):
        cache = sizes.get(level)
        if cache is None and (level == 3 or machine.caches):
            continue
        is_private = level == 1 or cache is None or (level == 2 and cache.shared_by <= 2)
        last_rate = rates[level] * device_hz
        yield Memory(
            name=f"L{level}",
            size_bytes=cache.size_bytes if cache else table.default(f"l{level}_bytes"),
            bytes_per_s=last_rate,
            byte_j=table.default(f"l{level}_byte_j"),
            per_core=is_private,
            core_bytes_per_s=0.0 if is_private else rates[level] * clock_hz,
        )
    limit = core.dram_bytes_per_s.value
    drawing = min(cores, table.default("dram_bytes_per_s_cores"))
    yield Memory(
        name="DRAM",
        size_bytes=machine.dram_bytes or table.default("dram_bytes"),
        bytes_per_s=min(limit * (cores if core.is_server else drawing), last_rate),
        byte_j=table.default("dram_byte_j"),
        core_bytes_per_s=min(limit, last_rate),
    )


def _sources(machine: Machine, core: Core) -> dict[str, Source]:
    table = microarchitectures()
    found = {key: table.source(number) for key, number in table.defaults.items()}
    for key in type(core).model_fields:
        value = getattr(core, key)
        if hasattr(value, "source"):
            found[f"core.{key}"] = table.source(value)
    found |= {"isa": _SYSTEM, "cores": _SYSTEM}
    found |= {f"memories.L{cache.level}.size_bytes": _SYSTEM for cache in machine.caches}
    if machine.max_clock_hz:
        found["clock_hz"] = _SYSTEM
    return found
