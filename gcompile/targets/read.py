"""Read a target file and refuse one that cannot be right.

Beyond the schema: numbers lie in the range of their unit, memories grow, slow down and cost more
from the cores outwards, and there is a vector unit for fp32 to fall back on.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from pydantic import BaseModel, ValidationError

from gcompile.errors import TargetError
from gcompile.ir import Precision
from gcompile.targets.schema import RANGES, Architecture, Number, TargetEntry, UnitEntry
from gcompile.targets.target import Memory, Source, Target, Unit


def read_target(path: Path) -> Target:
    """Read one target file.

    Raises:
        TargetError: The file is missing, is not TOML, or a key is wrong; file and key are named.
    """
    entry = _parse(path)
    numbers = dict(_numbers(entry))
    _check_ranges(path, numbers)
    target = Target(
        name=entry.name,
        kind=entry.kind,
        description=entry.description,
        boundary=entry.boundary,
        isa=frozenset(entry.isa),
        cores=int(entry.cores.value),
        clock_hz=entry.clock_hz.value,
        units=tuple(_unit(name, unit) for name, unit in entry.units.items()),
        memories=_memories(entry),
        static_w=entry.static_w.value,
        launch_s=entry.launch_s.value,
        launch_j=entry.launch_j.value,
        relative_error=entry.relative_error.value,
        calibrated=entry.calibrated,
        sources={
            key: Source(entry.sources.get(number.source, number.source), number.status)
            for key, number in numbers.items()
        },
        parallel_launch_s=entry.parallel_launch_s.value,
        core_w=entry.core_w.value,
        vector_efficiency=entry.vector_efficiency.value,
        is_shared=entry.is_shared,
        ratio_error=entry.ratio_error.value,
    )
    _check_whole(path, target)
    return target


def _parse(path: Path) -> TargetEntry:
    try:
        return TargetEntry.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TargetError(
            f"Target file {str(path)!r} cannot be read: {error.strerror}."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TargetError(f"Target file {str(path)!r} is not valid TOML: {error}.") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise TargetError(f"Target file {str(path)!r}, key {key!r}: {first['msg']}.") from error


def _numbers(entry: BaseModel, prefix: str = "") -> Iterator[tuple[str, Number | Architecture]]:
    """Yield every sourced number of the file under its dotted key."""
    for key in type(entry).model_fields:
        value = getattr(entry, key)
        if isinstance(value, Number | Architecture):
            yield prefix + key, value
        elif isinstance(value, dict):
            for name, item in value.items():
                if isinstance(item, BaseModel):
                    yield from _numbers(item, f"{prefix}{key}.{name}.")


def _unit(name: str, entry: UnitEntry) -> Unit:
    facts = entry.architecture
    shape = facts.model_dump(exclude={"source", "status"}) if facts else {}
    return Unit(
        name=name,
        kind=entry.kind,
        precision=entry.precision,
        peak_ops_per_s=entry.peak_ops_per_s.value,
        efficiency=entry.efficiency.value,
        op_j=entry.op_j.value,
        **shape,
    )


def _memories(entry: TargetEntry) -> tuple[Memory, ...]:
    return tuple(
        Memory(
            name=name,
            size_bytes=memory.size_bytes.value,
            bytes_per_s=memory.bytes_per_s.value,
            byte_j=memory.byte_j.value,
            per_core=memory.per_core,
            core_bytes_per_s=memory.core_bytes_per_s.value if memory.core_bytes_per_s else 0.0,
        )
        for name, memory in entry.memories.items()
    )


def _check_ranges(path: Path, numbers: dict[str, Number | Architecture]) -> None:
    for key, number in numbers.items():
        if isinstance(number, Architecture):
            continue
        low, high = RANGES[key.rpartition(".")[2]]
        if not low <= number.value <= high:
            raise TargetError(
                f"Target file {str(path)!r}, key {key!r}: {number.value:g} is outside "
                f"{low:g} to {high:g}. Numbers are in SI units, as the key's ending says."
            )


def _check_whole(path: Path, target: Target) -> None:
    if not any(u.precision is Precision.FP32 and u.kind == "simd" for u in target.units):
        raise TargetError(
            f"Target file {str(path)!r}, key 'units': no unit has kind 'simd' and precision "
            "'fp32', which everything without a unit of its own falls back to."
        )
    if not target.memories:
        raise TargetError(f"Target file {str(path)!r}, key 'memories': no level is described.")
    for inner, outer in pairwise(target.memories):
        for key, inside, outside in (
            ("size_bytes", inner.size_bytes, outer.size_bytes),
            ("bytes_per_s", outer.bytes_per_s, inner.bytes_per_s),
            ("byte_j", inner.byte_j, outer.byte_j),
        ):
            if inside > outside:
                raise TargetError(
                    f"Target file {str(path)!r}, key 'memories.{outer.name}.{key}': levels stand "
                    f"innermost first and grow, slow down and cost more outwards, but "
                    f"{outer.name} contradicts {inner.name}."
                )
