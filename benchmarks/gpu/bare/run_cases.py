"""Run cases, each in a process of its own; whatever one does, the next one runs.

A process says which item it begins and what came of it, a line each. One that ends, hangs or is
killed costs the item that it was at, and the items after it get a new process.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from benchmarks.gpu.bare.case import Case, Row

_LAST_LINES = 3


@dataclass(frozen=True)
class Clock:
    """When everything has to be over.

    Attributes:
        end_s: Of `time.monotonic`.
    """

    end_s: float

    @property
    def left_s(self) -> float:
        """Seconds until then."""
        return self.end_s - time.monotonic()


def run_cases(
    cases: Sequence[Case], folder: Path, done: Sequence[Row], clock: Clock, device: int = 0
) -> Iterator[Row]:
    """Yield the results that are not there yet.

    Args:
        cases: In the order in which they run.
        folder: What their settings are relative to.
        done: Results that are kept; what they tell of is not run again.
        clock: What begins too late is left out.
        device: Which GPU, as the driver counts.
    """
    finished = {(row.case, row.item) for row in done if row.status != "left out"}
    for case in cases:
        if (case.name, "") in finished:
            continue
        if clock.left_s <= 0:
            yield Row(case.name, "", "left out", "the time was over")
            continue
        skip = [item for name, item in finished if name == case.name]
        yield from _run(case, folder, skip, clock, device)


def _run(case: Case, folder: Path, skip: list[str], clock: Clock, device: int) -> Iterator[Row]:
    """All items of one case, in as many processes as it takes; then that the case is over."""
    skipped = list(skip)
    while True:
        worker = _Worker(case, folder, skipped, device)
        try:
            ended = yield from worker.rows(clock)
        finally:
            worker.stop()
        skipped += worker.finished
        if ended is None:
            yield Row(case.name, "", "passed")
            return
        if ended.item or ended.status != "failed" or not worker.finished:
            yield ended
        if (not ended.item and not worker.finished) or ended.status == "left out":
            return
        skipped.append(ended.item)


class _Worker:
    """The parent's side of one process."""

    def __init__(self, case: Case, folder: Path, skip: Sequence[str], device: int) -> None:
        self.case = case
        self.finished: list[str] = []
        task = json.dumps({**asdict(case), "skip": list(skip), "device": device})
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.gpu.bare.worker"],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.said: queue.Queue[str | None] = queue.Queue()
        self.errors: list[str] = []
        out, errors = self.process.stdout, self.process.stderr
        assert out is not None
        assert errors is not None
        self.listeners = [
            (self._listen(out, self.said.put), out),
            (self._listen(errors, self._keep_last), errors),
        ]
        stdin = self.process.stdin
        assert stdin is not None
        with contextlib.suppress(BrokenPipeError):  # It ended at once: its row says how.
            stdin.write(task)
            stdin.close()

    def rows(self, clock: Clock) -> Generator[Row, None, Row | None]:
        """Yield what it says; return the row of the item at which it broke, None if none."""
        at = ""
        while True:
            limit_s = min(self.case.limit_s, clock.left_s)
            try:
                line = self.said.get(timeout=max(limit_s, 0.0))
            except queue.Empty:
                if clock.left_s <= 0:
                    return Row(self.case.name, at, "left out", "the time was over")
                return Row(self.case.name, at, "failed", f"silent for {limit_s:.0f} s")
            if line is None:
                return self._ended(at)
            message = json.loads(line)
            if "begin" in message:
                at = message["begin"]
            elif "row" in message:
                self.finished.append(at)
                yield Row(self.case.name, at, **message["row"])
                at = ""

    def stop(self) -> None:
        """End the process and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for listener, stream in self.listeners:
            listener.join()
            stream.close()

    def _ended(self, at: str) -> Row | None:
        code = self.process.wait()
        self.listeners[-1][0].join(1.0)
        if code == 0:
            return None
        said = " ".join(line.strip() for line in self.errors)[-300:]
        reason = f"its process ended with code {code}: {said}" if said else f"code {code}"
        return Row(self.case.name, at, "failed", reason)

    def _listen(self, stream: IO[str], take: Callable[[str | None], None]) -> threading.Thread:
        def read() -> None:
            for line in stream:
                take(line)
            take(None)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        return thread

    def _keep_last(self, line: str | None) -> None:
        if line is not None and line.strip():
            self.errors = [*self.errors, line][-_LAST_LINES:]
