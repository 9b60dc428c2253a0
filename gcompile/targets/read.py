"""Read a target file and refuse one that cannot be right.

A file may name another as its `base` and then holds only what differs: a server is a device and
what stands around it.

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
from gcompile.targets.calibration import Calibration, Coefficient, CoefficientSet
from gcompile.targets.schema import (
    RANGES,
    Architecture,
    ArrayEntry,
    CalibrationEntry,
    CoefficientEntry,
    Number,
    PowerEntry,
    TargetEntry,
    UnitEntry,
)
from gcompile.targets.target import (
    Array,
    Memory,
    Multiplier,
    Power,
    Source,
    Store,
    Target,
    Unit,
)

SHIPPED = Path(__file__).parent / "data"
"""The folder of the targets that ship."""


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
        processors=int(_value(entry.processors, 1)),
        power=_power(entry.power) if entry.power else None,
        array=_array(entry.array) if entry.array else None,
        calibration=_calibration(entry.calibration) if entry.calibration else None,
    )
    _check_whole(path, target)
    return target


def _parse(path: Path) -> TargetEntry:
    try:
        return TargetEntry.model_validate(_tables(path))
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


def _tables(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, object]:
    """Read the file over the one it names as its base: beside it, or among those that ship."""
    tables = tomllib.loads(path.read_text(encoding="utf-8"))
    base = tables.pop("base", None)
    if base is None:
        return tables
    beside = path.parent / f"{base}.toml"
    found = beside if beside.is_file() else SHIPPED / f"{base}.toml"
    if path in seen or not found.is_file():
        raise TargetError(
            f"Target file {str(path)!r}, key 'base': {base!r} is "
            + ("based on this file itself." if path in seen else "no target file beside it, "
               "and none of those that ship.")
        )  # fmt: skip
    return _over(_tables(found, (*seen, path)), tables)


def _over(below: dict[str, object], above: dict[str, object]) -> dict[str, object]:
    """Lay one table over another; a number is replaced with its source and status."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        is_table = isinstance(value, dict) and "value" not in value
        if is_table and isinstance(under, dict) and isinstance(value, dict):
            merged[key] = _over(under, value)
        else:
            merged[key] = value
    return merged


def _numbers(entry: BaseModel, prefix: str = "") -> Iterator[tuple[str, Number | Architecture]]:
    """Yield every sourced number of the file under its dotted key."""
    for key in type(entry).model_fields:
        value = getattr(entry, key)
        if isinstance(value, Number | Architecture):
            yield prefix + key, value
        elif isinstance(value, BaseModel):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, dict):
            for name, item in value.items():
                if isinstance(item, BaseModel):
                    yield from _numbers(item, f"{prefix}{key}.{name}.")


def _value(number: Number | None, default: float = 0.0) -> float:
    return default if number is None else number.value


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
        sparse_ops_per_s=_value(entry.sparse_ops_per_s),
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
            core_bytes_per_s=_value(memory.core_bytes_per_s),
            efficiency=_value(memory.efficiency, 1.0),
            write_byte_j=_value(memory.write_byte_j),
        )
        for name, memory in entry.memories.items()
    )


def _power(entry: PowerEntry) -> Power:
    return Power(
        limit_w=entry.limit_w.value,
        lowest_limit_w=_value(entry.lowest_limit_w),
        highest_limit_w=_value(entry.highest_limit_w),
        exponent=entry.exponent.value,
        host_w=_value(entry.host_w),
        supply_efficiency=_value(entry.supply_efficiency, 1.0),
    )


def _array(entry: ArrayEntry) -> Array:
    converters = entry.converters
    return Array(
        dataflow=entry.dataflow,
        rows=int(entry.rows.value),
        columns=int(entry.columns.value),
        noc_j=entry.noc_j.value,
        stores={
            name: Store(
                store.size_bytes.value,
                store.element_bytes.value,
                store.read_j.value,
                store.write_j.value,
            )
            for name, store in entry.stores.items()
        },
        converter_j=(
            {"input": converters.input_j.value, "output": converters.output_j.value}
            if converters
            else {}
        ),
        multipliers={
            name: Multiplier(
                item.power_ratio.value,
                item.mean_absolute_error.value,
                item.mean_relative_error.value,
            )
            for name, item in entry.multipliers.items()
        },
        multiplier=entry.multiplier,
        multiply_share=_value(entry.multiply_share, 1.0),
    )


def _calibration(entry: CalibrationEntry) -> Calibration:
    def coefficients(table: dict[str, CoefficientEntry]) -> dict[str, Coefficient]:
        return {term: Coefficient(c.value, c.low, c.high) for term, c in table.items()}

    sets = (
        CoefficientSet(
            precision=precision,
            rows=item.rows,
            fold_error=item.fold_error,
            family_error=item.family_error,
            energy_j=coefficients(item.energy_j),
            time_s=coefficients(item.time_s),
        )
        for precision, item in entry.sets.items()
    )
    return Calibration(
        entry.source,
        entry.status,
        entry.date,
        tuple(sorted(sets, key=lambda item: -item.precision.bits)),
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
    _check_array(path, target)
    _check_peaks(path, target)
    _check_power(path, target)
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


def _check_array(path: Path, target: Target) -> None:
    """Approximate multipliers and arrays belong to accelerators, and an array is whole."""
    array = target.array
    if target.kind != "accelerator":
        if array is not None:
            raise TargetError(
                f"Target file {str(path)!r}, key 'array': a {target.kind} has no array of "
                "processing elements, and no multiplier of its can be replaced. Remove the "
                "table, or write kind = 'accelerator'."
            )
        return
    if array is None:
        raise TargetError(
            f"Target file {str(path)!r}, key 'array': an accelerator needs this table."
        )
    needs = {"inputs", "weights", "sums"} if array.dataflow == "row-stationary" else set()
    if missing := needs - array.stores.keys():
        raise TargetError(
            f"Target file {str(path)!r}, key 'array.stores': a {array.dataflow} array also needs "
            f"{', '.join(sorted(missing))}."
        )
    if array.dataflow == "weight-stationary" and not array.converter_j:
        raise TargetError(
            f"Target file {str(path)!r}, key 'array.converters': a weight-stationary array "
            "converts its inputs and outputs; say at which energy."
        )
    if array.multiplier and array.multiplier not in array.multipliers:
        known = ", ".join(array.multipliers) or "none"
        raise TargetError(
            f"Target file {str(path)!r}, key 'array.multiplier': {array.multiplier!r} is not "
            f"described. Described: {known}."
        )


def _check_peaks(path: Path, target: Target) -> None:
    for unit in target.units:
        if unit.sparse_ops_per_s and unit.sparse_ops_per_s <= unit.peak_ops_per_s:
            raise TargetError(
                f"Target file {str(path)!r}, key 'units.{unit.name}.sparse_ops_per_s': it is not "
                "above the dense peak. Data sheets lead with the sparse number: "
                "'peak_ops_per_s' is the dense one."
            )


def _check_power(path: Path, target: Target) -> None:
    power = target.power
    if power is None:
        return
    if power.limit_w <= target.static_w:
        raise TargetError(
            f"Target file {str(path)!r}, key 'power.limit_w': {power.limit_w:g} W leaves nothing "
            f"above the static {target.static_w:g} W."
        )
    if power.host_w and target.boundary != "wall":
        raise TargetError(
            f"Target file {str(path)!r}, key 'power.host_w': the host is inside the boundary "
            "'wall' only."
        )
