"""Measured rows: read them, and refuse what cannot be joules of an inference."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass
from pathlib import Path

from gcompile.errors import UsageError
from gcompile.ir import Precision

_MAX_SPREAD = 1e6


@dataclass(frozen=True, slots=True)
class MeasuredRow:
    """One model, measured on the device: whole-system joules of one run of one batch.

    Attributes:
        model: Name of the ONNX file, with or without its ending.
        energy_j: Joules of one inference of the whole batch.
        time_s: Seconds of it; None when not measured.
        batch: Samples of one inference.
        precision: What it ran in; None for what the model itself stores.
    """

    model: str
    energy_j: float
    time_s: float | None = None
    batch: int = 1
    precision: Precision | None = None

    @property
    def label(self) -> str:
        """What a message calls the row."""
        precision = f", {self.precision}" if self.precision else ""
        return f"{self.model!r} (batch {self.batch}{precision})"


COLUMNS = tuple(field.name for field in fields(MeasuredRow))
_HEADER = ",".join(COLUMNS)
_SCALED = {"mj": "mJ", "uj": "uJ", "nj": "nJ", "kj": "kJ", "wh": "Wh", "ms": "ms", "us": "us"}


def read_rows(source: str | Path | Iterable[object]) -> tuple[MeasuredRow, ...]:
    """Read rows from a CSV file, or from mappings or dataclasses with the same names.

    Raises:
        UsageError: A row cannot be used; the row and the remedy are named.
    """
    if isinstance(source, str | Path):
        rows = _read_csv(Path(source))
    else:
        rows = [_row(_mapping(item), f"row {i}") for i, item in enumerate(source, 1)]
    if not rows:
        raise UsageError(f"There are no measured rows. Give some with the columns {_HEADER}.")
    _refuse_duplicates(rows)
    _refuse_spread(rows)
    return tuple(rows)


def _read_csv(path: Path) -> list[MeasuredRow]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"Measurements {str(path)!r} cannot be read as text: {error}. Give a CSV file with "
            f"the columns {_HEADER}."
        ) from error
    lines = csv.DictReader(text.splitlines(), skipinitialspace=True)
    _check_columns([name.strip() for name in lines.fieldnames or ()], path.name)
    found = []
    for line in lines:
        where = f"{path.name}, line {lines.line_num}"
        if None in line:
            raise UsageError(f"{where}: more values than columns. Quote names with commas.")
        if any(value and value.strip() for value in line.values()):
            found.append(_row({key.strip(): value for key, value in line.items()}, where))
    return found


def _mapping(item: object) -> Mapping[str, object]:
    if isinstance(item, Mapping):
        found = item
    elif is_dataclass(item) and not isinstance(item, type):
        found = asdict(item)
    else:
        raise UsageError(
            f"A measured row is a mapping or a dataclass with {_HEADER}, not {item!r:.60}."
        )
    _check_columns([str(key) for key in found], "rows")
    return found


def _check_columns(names: Sequence[str], where: str) -> None:
    for name in names:
        stem, _, unit = name.lower().rpartition("_")
        if name not in COLUMNS and stem in ("energy", "time") and unit in _SCALED:
            right = f"{stem}_{'j' if stem == 'energy' else 's'}"
            raise UsageError(
                f"{where}: column {name!r} is in {_SCALED[unit]}. Convert it to "
                f"{'joules' if stem == 'energy' else 'seconds'} and call it {right!r}."
            )
        if name not in COLUMNS:
            raise UsageError(f"{where}: unknown column {name!r}. Columns: {_HEADER}.")
    if missing := {"model", "energy_j"} - set(names):
        raise UsageError(
            f"{where}: column {min(missing)!r} is missing. Columns: {_HEADER}; the first two are "
            "needed."
        )


def _row(values: Mapping[str, object], where: str) -> MeasuredRow:
    model = str(values["model"] or "").strip()
    if not model:
        raise UsageError(f"{where}: the model has no name. Write the name of its ONNX file.")
    energy_j = _positive(values["energy_j"], where, "energy_j")
    if energy_j is None:
        raise UsageError(f"{where}: energy_j of {model!r} is empty. Measure it, or drop the row.")
    return MeasuredRow(
        model=model,
        energy_j=energy_j,
        time_s=_positive(values.get("time_s"), where, "time_s"),
        batch=_batch(values.get("batch"), where),
        precision=_precision(values.get("precision"), where),
    )


def _positive(value: object, where: str, name: str) -> float | None:
    if value is None or str(value).strip() == "":
        return None
    try:
        number = float(str(value))
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        unit = "joules" if name == "energy_j" else "seconds"
        raise UsageError(
            f"{where}: {name} is {value!r:.40}, not a positive number of {unit}. Correct it, or "
            "drop the row."
        )
    return number


def _batch(value: object, where: str) -> int:
    text = str(value if value is not None else "").strip()
    if not text:
        return 1
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{where}: batch is {text!r:.40}. Give a whole number, 1 or more.")
    return int(text)


def _precision(value: object, where: str) -> Precision | None:
    text = str(value if value is not None else "").strip()
    if not text:
        return None
    known = [p.value for p in (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)]
    if text not in known:
        raise UsageError(f"{where}: unknown precision {text!r:.40}. Known: {', '.join(known)}.")
    return Precision(text)


def _refuse_duplicates(rows: Sequence[MeasuredRow]) -> None:
    seen: set[tuple[str, int, Precision | None]] = set()
    for row in rows:
        key = (row.model.removesuffix(".onnx"), row.batch, row.precision)
        if key in seen:
            raise UsageError(
                f"{row.label} is measured twice. Keep one row, such as the mean of both."
            )
        seen.add(key)


def _refuse_spread(rows: Sequence[MeasuredRow]) -> None:
    least, most = (pick(rows, key=lambda row: row.energy_j) for pick in (min, max))
    if most.energy_j / least.energy_j > _MAX_SPREAD:
        raise UsageError(
            f"Energies range from {least.energy_j:g} to {most.energy_j:g}, which one device does "
            f"not do: units are mixed up. Give joules in every row; look at {least.label} and "
            f"{most.label}."
        )
