"""Time contenders in turn, each in a process of its own.

Processes keep contenders apart: CPU time counts only their own threads, a crash loses one row, and
each reads its number of threads from a fresh environment. A turn begins with a call that does not
count, which brings caches back.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from benchmarks.timing import Samples


class NotOfferedError(Exception):
    """The contender cannot do what is asked, by design; the sentence is its row."""


Call = Callable[[], object]
Build = Callable[[], Call]
"""Makes a contender ready, in its own process; raises what keeps it from running."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TVM_NUM_THREADS")
_SLOW_S = 0.3
_REST_S = 0.25
"""Until the threads of the contender before no longer wait in a loop for more work."""
_SPAWN = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Limits:
    """What bounds a race.

    Attributes:
        rounds: How often each contender gets its turn.
        slice_s: About how long a turn lasts; quick calls repeat within it.
        build_s: Most seconds until a contender is ready.
        total_s: Most seconds of all turns of one contender; slow ones have fewer turns.
    """

    rounds: int = 15
    slice_s: float = 0.03
    build_s: float = 300.0
    total_s: float = 8.0


@dataclass(frozen=True)
class Timed:
    """How one contender did; without samples, `reason` says why."""

    samples: Samples | None = None
    build_s: float = 0.0
    reason: str = ""


def race(builds: Mapping[str, Build], threads: int, limits: Limits) -> dict[str, Timed]:
    """Build all contenders side by side, then time them in turn, round after round."""
    for variable in _THREAD_VARIABLES:
        os.environ[variable] = str(threads)
    lanes = {name: _Lane(build, limits) for name, build in builds.items()}
    try:
        for lane in lanes.values():
            lane.wait_until_ready()
        for _ in range(limits.rounds):
            for lane in lanes.values():
                if threads > 1:
                    time.sleep(_REST_S)
                lane.turn()
    finally:
        for lane in lanes.values():
            lane.stop()
    return {name: lane.timed() for name, lane in lanes.items()}


@dataclass
class _Lane:
    """The parent's side of one contender."""

    build: Build
    limits: Limits
    samples: Samples = field(default_factory=Samples)
    build_s: float = 0.0
    spent_s: float = 0.0
    reason: str = ""

    def __post_init__(self) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        arguments = (theirs, self.build, self.limits.slice_s)
        self.process: BaseProcess = _SPAWN.Process(target=_serve, args=arguments)
        self.started = time.perf_counter()
        self.process.start()
        theirs.close()

    def wait_until_ready(self) -> None:
        left = self.started + self.limits.build_s - time.perf_counter()
        answer = self._answer(max(left, 1.0), f"not ready after {self.limits.build_s:.0f} s")
        self.build_s = answer[0] if answer else 0.0

    def turn(self) -> None:
        if self.reason or self.spent_s > self.limits.total_s:
            return
        start = time.perf_counter()
        self.connection.send("turn")
        answer = self._answer(2 * self.limits.total_s, f"over {self.limits.total_s:.0f} s a call")
        self.spent_s += time.perf_counter() - start
        if answer:
            self.samples.cpu_s.append(answer[0])
            self.samples.wall_s.append(answer[1])

    def stop(self) -> None:
        """End the process and all that it started."""
        if self.process.is_alive() and self.process.pid is not None:
            with contextlib.suppress(ProcessLookupError):  # It leads no group yet.
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
        self.process.join()

    def timed(self) -> Timed:
        if not self.samples.cpu_s:
            return Timed(build_s=self.build_s, reason=self.reason)
        return Timed(self.samples, self.build_s)

    def _answer(self, limit_s: float, otherwise: str) -> tuple[float, ...]:
        """What the process says within the limit; the reason is kept when it fails."""
        try:
            answer = self.connection.recv() if self.connection.poll(limit_s) else otherwise
        except (EOFError, OSError):
            self.process.join(5)
            answer = f"its process ended with code {self.process.exitcode}"
        if isinstance(answer, str):
            self.reason = answer
            self.stop()
            return ()
        return tuple(answer)


def _serve(connection: Connection, build: Build, slice_s: float) -> None:
    """The contender's side: get ready, then answer each request with (CPU, wall) per call."""
    os.setsid()  # Contenders start processes of their own, which end with this one.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        start = time.perf_counter()
        call = build()
        call()
        connection.send((time.perf_counter() - start,))
        call_s = _call_s(call)
        while connection.recv():
            connection.send(_timed(call, call_s, slice_s))
    except EOFError:
        return
    except Exception as error:  # Whatever a contender objects to is its row.
        connection.send(_sentence(error))


def _timed(call: Call, call_s: float, slice_s: float) -> tuple[float, float]:
    """(CPU, wall) per call; one that takes seconds needs no call before it to fill caches."""
    repeats = max(1, int(slice_s / call_s))
    if call_s < _SLOW_S:
        call()
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - wall
    return cpu_s / repeats, wall_s / repeats


def _call_s(call: Call) -> float:
    start = time.perf_counter()
    call()
    return max(time.perf_counter() - start, 1e-7)


def _sentence(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    kind = "" if isinstance(error, NotOfferedError) else f"{type(error).__name__}: "
    return f"{kind}{lines[0]}"[:160]
