"""Progress of a long command: a bar on a terminal, a line per stage elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gcompile.cli.output import say

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
    said: set[str] = set()

    def report(stage: str, fraction: float) -> None:
        if stage not in said:
            said.add(stage)
            say(f"gcompile: {stage} ...")

    return report
