"""Read a CSV file of timestamps and watts."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from gcompile.errors import MeterError

_TIMES = {"time_s": 1.0, "unix_s": 1.0, "time": 1.0, "timestamp": 1.0, "time_ms": 1e-3}
_POWERS = {"power_w": 1.0, "watts": 1.0, "power": 1.0, "power_mw": 1e-3}
_HEADER = "Its first line must name a time column (time_s, time_ms, timestamp) and a power column"
_MOST_W = 1e6
_YEAR_2100_S = 4.1e9


@dataclass(frozen=True)
class PowerLog:
    """Samples in the order of time.

    Attributes:
        name: Of the file, for messages.
        times_s: Unix time of each sample by the analyser's clock.
        power_w: Power at that time.
    """

    name: str
    times_s: Sequence[float]
    power_w: Sequence[float]


def read_power_log(path: Path) -> PowerLog:
    """Read the samples; lines that begin with `#` are left out.

    Time is Unix seconds or ISO 8601 with a zone; power is in watts unless its column is
    `power_mw`. A last line that is still being written is left out.

    Raises:
        MeterError: The file is no such log; the message names the line.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise MeterError(f"The power log {str(path)!r} cannot be read: {reason}.") from error
    whole = text[: text.rfind("\n") + 1]
    times, watts = [], []
    for time_s, power_w in _samples(whole, path.name):
        times.append(time_s)
        watts.append(power_w)
    if len(times) < 2:
        raise MeterError(
            f"The power log {path.name!r} has {len(times)} samples; at least two are needed. "
            "Start the analyser before the measurement."
        )
    return PowerLog(repr(path.name), times, watts)


def _samples(text: str, name: str) -> Iterator[tuple[float, float]]:
    lines = [(i, line) for i, line in enumerate(text.splitlines(), 1) if _holds_data(line)]
    if not lines:
        return
    header = lines[0][1]
    delimiter = next((mark for mark in ";\t" if mark in header), ",")
    columns = [cell.strip().lower() for cell in next(csv.reader([header], delimiter=delimiter))]
    time_at, time_scale = _column(columns, _TIMES, name)
    power_at, power_scale = _column(columns, _POWERS, name)
    last_s = -math.inf
    for number, line in lines[1:]:
        cells = next(csv.reader([line], delimiter=delimiter))
        if delimiter == ";":  # Where lists take semicolons, decimals take commas.
            cells = [cell.replace(",", ".") for cell in cells]
        try:
            time_s = _time(cells[time_at].strip(), time_scale)
            power_w = float(cells[power_at]) * power_scale
        except (IndexError, ValueError) as error:
            reason = f": {error}" if str(error).startswith("the time") else ""
            raise MeterError(
                f"Line {number} of the power log {name!r} has no time and power{reason}. "
                "Write lines such as 1735689600.25,12.5."
            ) from error
        _check(name, number, time_s, last_s, power_w)
        last_s = time_s
        yield time_s, power_w


def _holds_data(line: str) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith("#")


def _column(columns: Sequence[str], known: dict[str, float], name: str) -> tuple[int, float]:
    found = [(i, known[column]) for i, column in enumerate(columns) if column in known]
    if len(found) != 1:
        raise MeterError(
            f"The power log {name!r} has the columns {', '.join(columns)!r:.80}. "
            f"{_HEADER} (power_w, power_mw), one of each."
        )
    return found[0]


def _time(text: str, scale: float) -> float:
    try:
        return float(text) * scale
    except ValueError:
        moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the time has no zone; add Z or +02:00, or write Unix seconds")
    return moment.timestamp()


def _check(name: str, number: int, time_s: float, last_s: float, power_w: float) -> None:
    """Refuse what cannot be: most often a unit that was mixed up."""
    problem = None
    if not math.isfinite(time_s) or abs(time_s) > _YEAR_2100_S:
        problem = f"has the time {time_s:g} s; name the column time_ms if it is in milliseconds"
    elif time_s <= last_s:
        problem = "is not later than the line before; sort the log and drop repeated lines"
    elif not 0 <= power_w <= _MOST_W:
        problem = f"has {power_w:g} W; watts are not negative, and milliwatts go in power_mw"
    if problem:
        raise MeterError(f"Line {number} of the power log {name!r} {problem}.")
