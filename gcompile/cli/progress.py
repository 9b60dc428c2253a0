"""Progress of a long command: a bar on a terminal, a line per stage elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gcompile.cli.output import say

_QUIET_S = 20.0
"""Seconds between lines that say how much is left."""

Report = Callable[[str, float], None]
"""Told what is being done, and which fraction of the whole work lies behind."""


@contextmanager
def progress(quiet: bool) -> Iterator[Report | None]:
    """Give the function that shows progress while the block runs; None when quiet."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as report:
            yield report
    else:
        yield _lines()


@contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bars:
        task = bars.add_task("starting", total=1.0)

        def report(stage: str, fraction: float) -> None:
            done = min(max(fraction, 0.0), 1.0)
            bars.update(task, completed=done, description=escape(stage))

        yield report


def _lines() -> Report:
    """A line when a stage begins, and now and then how much time is left."""
    said: set[str] = set()
    start = last = time.monotonic()

    def report(stage: str, fraction: float) -> None:
        nonlocal last
        now = time.monotonic()
        if stage not in said:
            said.add(stage)
            say(f"gcompile: {stage} ...")
        elif now - last >= _QUIET_S and 0 < fraction < 1:
            last = now
            left = remaining(now - start, fraction)
            say(f"gcompile: {stage}, {fraction:.0%} done, about {left} left")

    return report


def remaining(elapsed_s: float, fraction: float) -> str:
    """How long the rest takes if it goes on as before: seconds, minutes or hours."""
    left = elapsed_s * (1 - fraction) / fraction
    if left < 90:
        return f"{left:.0f} s"
    return f"{left / 60:.0f} min" if left < 5400 else f"{left / 3600:.1f} h"
