"""Write a target as a TOML file that `read_target` reads back as an equal target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Union, get_args, get_origin

from pydantic import BaseModel

from gcompile.errors import UsageError
from gcompile.targets.schema import Architecture, Number, TargetEntry, UnitEntry
from gcompile.targets.target import Source, Target

_UNKNOWN = Source("The base that was calibrated", "derived")
_HAND_WRITTEN = ("sources", "units", "memories", "calibration", "array")

Table = dict[str, object]


def write_target(target: Target, path: Path) -> None:
    """Write the target, with the source of every number.

    Raises:
        UsageError: The file cannot be written.
    """
    try:
        path.write_text(target_text(target), encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{str(path)!r} cannot be written: {error.strerror}.") from error


def target_text(target: Target) -> str:
    """Return the target as TOML. Accelerators, which nobody calibrates, are not supported."""
    if target.array is not None:
        raise UsageError(f"Target {target.name} is described for estimates only.")
    names: dict[str, str] = {}
    table = _table(TargetEntry, target, "", target.sources, names)
    table["isa"] = sorted(target.isa)
    units = {unit.name: _unit(unit, target, names) for unit in target.units}
    table["units"] = units
    table["memories"] = {
        memory.name: _table(
            _item_type("memories"), memory, f"memories.{memory.name}.", target.sources, names
        )
        for memory in target.memories
    }
    table["sources"] = {short: text for text, short in names.items()}
    if target.calibration is not None:
        table["calibration"] = _calibration(target)
    order = ("sources", "units", "memories", "calibration")
    tables = {key: table.pop(key) for key in order if key in table}
    return "\n".join(_lines("", table | tables)).strip() + "\n"


def _table(
    entry: type[BaseModel],
    value: object,
    prefix: str,
    sources: Mapping[str, Source],
    names: dict[str, str],
) -> Table:
    """Lay out the attributes of `value` as the schema's entry has them."""
    table: Table = {}
    for key, field in entry.model_fields.items():
        kinds = _kinds(field.annotation)
        found = getattr(value, key, None)
        if key in _HAND_WRITTEN or found is None or key == "architecture":
            continue
        if Number in kinds:
            if type(None) not in kinds or found != _default(value, key):
                table[key] = _number(found, sources.get(prefix + key, _UNKNOWN), names)
        elif nested := _model(kinds):
            table[key] = _table(nested, found, f"{prefix}{key}.", sources, names)
        else:
            table[key] = found
    return table


def _unit(unit: object, target: Target, names: dict[str, str]) -> Table:
    name = getattr(unit, "name", "")
    prefix = f"units.{name}."
    table = _table(UnitEntry, unit, prefix, target.sources, names)
    facts: Table = {
        key: getattr(unit, key) for key in Architecture.model_fields if hasattr(unit, key)
    }
    source = target.sources.get(f"{prefix}architecture", _UNKNOWN)
    table["architecture"] = facts | _sourced(source, names)
    return table


def _calibration(target: Target) -> Table:
    found = target.calibration
    if found is None:
        return {}
    sets: Table = {}
    for item in found.sets:
        table: Table = {"rows": item.rows, "fold_error": item.fold_error}
        if item.family_error is not None:
            table["family_error"] = item.family_error
        for key, costs in (("energy_j", item.energy_j), ("time_s", item.time_s)):
            if costs:
                table[key] = {
                    term: {"value": c.value, "low": c.low, "high": c.high}
                    for term, c in costs.items()
                }
        sets[item.precision.value] = table
    return {"source": found.source, "status": found.status, "date": found.date, "sets": sets}


def _number(value: object, source: Source, names: dict[str, str]) -> Table:
    return {"value": value, **_sourced(source, names)}


def _sourced(source: Source, names: dict[str, str]) -> Table:
    short = names.setdefault(source.text, f"s{len(names) + 1}")
    return {"source": short, "status": source.status}


def _kinds(annotation: object) -> tuple[object, ...]:
    is_union = get_origin(annotation) in (Union, UnionType)
    return get_args(annotation) if is_union else (annotation,)


def _model(kinds: tuple[object, ...]) -> type[BaseModel] | None:
    models = (k for k in kinds if isinstance(k, type) and issubclass(k, BaseModel))
    return next(models, None)


def _default(value: object, key: str) -> object:
    """Return what the attribute is where a file does not say."""
    known = getattr(type(value), "__dataclass_fields__", {})
    return known[key].default if key in known else None


def _item_type(key: str) -> type[BaseModel]:
    """Return the entry that a table of tables of the whole file holds."""
    _, item = get_args(TargetEntry.model_fields[key].annotation)
    kind: type[BaseModel] = item
    return kind


def _lines(prefix: str, table: Table) -> list[str]:
    """Write plain values first, then the tables below."""
    lines, below = [], []
    for key, value in table.items():
        if isinstance(value, dict) and not _is_inline(value):
            below.append((key, value))
        else:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in below:
        name = f"{prefix}{_key(key)}"
        lines += ["", f"[{name}]", *_lines(f"{name}.", value)]
    return lines


def _is_inline(table: Table) -> bool:
    return "value" in table or ("source" in table and "sets" not in table)


def _key(key: str) -> str:
    plain = key.replace("_", "").replace("-", "").isalnum() and key.isascii()
    return key if plain else json.dumps(key)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return repr(float(value)) if isinstance(value, float) else str(value)
