"""What is run, and what came of it, as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

Kind = Literal["kernels", "artefact", "peer", "ceiling"]
Status = Literal["passed", "failed", "absent", "left out"]
"""`absent`: what it needs is not installed, or it does not offer this. `left out`: no time."""


@dataclass(frozen=True)
class Case:
    """Work for one process.

    Attributes:
        settings: What the kind needs, relative to the archive's folder.
        limit_s: The most seconds between two signs of life.
    """

    name: str
    kind: Kind
    settings: dict[str, Any]
    limit_s: float = 60.0


@dataclass(frozen=True)
class Row:
    """What came of one item of a case.

    Attributes:
        item: Which one; a case of one item has its own name here.
        reason: Why there are no figures, or what was wrong.
        figures: Seconds, joules, errors, by name.
    """

    case: str
    item: str
    status: Status
    reason: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class AbsentError(Exception):
    """What an item needs is not here, or it is not offered; the sentence is its row."""


class WrongError(Exception):
    """An item ran and gave a wrong result.

    Attributes:
        figures: What was found.
    """

    def __init__(self, reason: str, figures: dict[str, Any]) -> None:
        super().__init__(reason)
        self.figures = figures


def write_cases(path: Path, cases: Iterable[Case]) -> None:
    """Write the work of an archive."""
    path.write_text(json.dumps([asdict(case) for case in cases], indent=1), encoding="utf-8")


def read_cases(path: Path) -> list[Case]:
    """Read the work of an archive."""
    return [Case(**item) for item in json.loads(path.read_text(encoding="utf-8"))]


def write_rows(path: Path, facts: dict[str, Any], rows: Iterable[Row]) -> None:
    """Write results beside what is known of the machine, whole or not at all."""
    text = json.dumps({**facts, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
    part = path.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def read_rows(path: Path) -> list[Row]:
    """The results of an earlier run; none where there was none."""
    if not path.is_file():
        return []
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))["rows"]]
