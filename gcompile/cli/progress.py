"""Progress of a long command: a bar on a terminal, a line per stage elsewhere, or nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gcompile.cli.output import say

Report = Callable[[str, float], None]
"""Takes the name of a stage and the fraction of it that is done, between 0 and 1."""


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
        current = ""

        def report(stage: str, fraction: float) -> None:
            nonlocal current
            if stage != current:
                current = stage
                bars.reset(task, total=1.0, description=escape(stage))
            bars.update(task, completed=min(max(fraction, 0.0), 1.0))

        yield report


def _lines() -> Report:
    said: set[str] = set()

    def report(stage: str, fraction: float) -> None:
        if stage not in said:
            said.add(stage)
            say(f"gcompile: {stage} ...")

    return report
