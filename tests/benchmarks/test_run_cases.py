"""Cases run in processes of their own, whatever those do."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.gpu.bare.case import Case, Row
from benchmarks.gpu.bare.run_cases import Clock, run_cases

_WORKER = """
import json, os, sys, time
task = json.load(sys.stdin)
def say(**message): print(json.dumps(message), flush=True)
for name in task["settings"]["items"]:
    if name in task["skip"]: continue
    say(begin=name)
    if name == "crash": print("what the driver said", file=sys.stderr); os.abort()
    if name == "hang": time.sleep(60)
    if name == "broken":
        say(row={"status": "failed", "reason": "an error"})
        sys.exit(5)
    say(row={"status": "passed", "figures": {"n": 1}})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An archive whose worker does as its items are called."""
    place = tmp_path / "benchmarks" / "gpu" / "bare"
    place.mkdir(parents=True)
    for each in (place, place.parent, place.parent.parent):
        (each / "__init__.py").touch()
    (place / "worker.py").write_text(_WORKER)
    return tmp_path


def _run(folder: Path, *items: str, done: tuple[Row, ...] = (), seconds: float = 30) -> list[Row]:
    case = Case("case", "kernels", {"items": items}, limit_s=1.0)
    return list(run_cases([case], folder, done, Clock(time.monotonic() + seconds)))


def _short(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row.item, row.status) for row in rows]


def test_one_that_crashes_costs_its_item(folder: Path) -> None:
    rows = _run(folder, "a", "crash", "b")
    expected = [("a", "passed"), ("crash", "failed"), ("b", "passed"), ("", "passed")]
    assert _short(rows) == expected
    assert "code -6: what the driver said" in rows[1].reason


def test_one_that_hangs_is_ended(folder: Path) -> None:
    rows = _run(folder, "hang", "b")
    assert _short(rows) == [("hang", "failed"), ("b", "passed"), ("", "passed")]
    assert rows[0].reason == "silent for 1 s"


def test_after_an_error_of_the_driver_a_new_process_goes_on(folder: Path) -> None:
    rows = _run(folder, "broken", "b")
    assert _short(rows) == [("broken", "failed"), ("b", "passed"), ("", "passed")]


def test_what_is_done_is_not_run_again(folder: Path) -> None:
    done = (Row("case", "a", "passed"), Row("case", "b", "left out"))
    assert _short(_run(folder, "a", "b", done=done)) == [("b", "passed"), ("", "passed")]
    assert _run(folder, "a", done=(Row("case", "", "passed"),)) == []


def test_what_begins_too_late_is_left_out(folder: Path) -> None:
    assert _short(_run(folder, "a", seconds=0)) == [("", "left out")]
    assert _short(_run(folder, "hang", "b", seconds=0.7)) == [("hang", "left out")]


def test_a_worker_that_cannot_start_ends_the_case(tmp_path: Path) -> None:
    (row,) = _run(tmp_path, "a")
    assert (row.item, row.status) == ("", "failed")
