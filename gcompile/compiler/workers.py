"""Where parts of a long measurement run: in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

import multiprocessing
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from gcompile.errors import BackendUnavailableError, RunError, UsageError

Task = TypeVar("Task")
Result = TypeVar("Result")

_ADDRESS = re.compile(r"(ray://)?[\w.-]+:\d{1,5}")


class Workers(Protocol):
    """Several processes that each take one task at a time."""

    def count(self) -> int:
        """How many tasks run at the same time."""

    def each(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        """Yield the results as they come in; function and tasks must be able to be pickled.

        Raises:
            RunError: A worker ended, or could not be reached. What was yielded is right.
        """


@dataclass(frozen=True)
class Processes:
    """Processes of this machine, made anew: threads of this one do not reach into them."""

    processes: int

    def count(self) -> int:
        return self.processes

    def each(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(self.processes, len(tasks)), mp_context=context) as pool:
            futures = [pool.submit(function, task) for task in tasks]
            try:
                for future in as_completed(futures):
                    yield future.result()
            except BrokenProcessPool as error:
                raise RunError(
                    "A worker process ended before its measurement did, perhaps for lack of "
                    "memory. Give fewer with --workers; what was measured is kept."
                ) from error
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class RayCluster:
    """The CPUs of a Ray cluster, whose nodes have the same gcompile installed.

    Attributes:
        address: `auto` for the cluster that this machine belongs to, `HOST:PORT` of its head, or
            `ray://HOST:PORT` of its client server.
    """

    address: str

    def count(self) -> int:
        ray = self._connected()
        return max(int(ray.cluster_resources().get("CPU", 1)), 1)

    def each(self, function: Callable[[Task], Result], tasks: Sequence[Task]) -> Iterator[Result]:
        ray = self._connected()
        remote = ray.remote(num_cpus=1)(function)
        waiting = [remote.remote(task) for task in tasks]
        try:
            while waiting:
                ready, waiting = ray.wait(waiting)
                yield ray.get(ready[0])
        except ray.exceptions.RayTaskError:
            raise
        except ray.exceptions.RayError as error:
            raise RunError(
                f"A worker of the Ray cluster {self.address!r} was lost: {_first_line(error)} "
                "What was measured is kept; start again to go on."
            ) from error
        finally:
            for each in waiting:
                ray.cancel(each, force=True)

    def _connected(self) -> Any:
        try:
            import ray
        except ImportError as error:
            raise BackendUnavailableError(
                f"ray cannot be imported ({error}). Install it with: pip install 'gcompile[ray]'"
            ) from error
        if ray.is_initialized():
            return ray
        try:
            ray.init(address=self.address, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, ImportError) as error:
            raise RunError(
                f"The Ray cluster {self.address!r} cannot be reached: {_first_line(error)} Start "
                "one with `ray start --head`, or name another."
            ) from error
        return ray


def parse_workers(text: str | int | None) -> Workers | None:
    """Read `4`, `ray`, `HOST:PORT` or `ray://HOST:PORT`; None stays None.

    Raises:
        UsageError: It is none of these.
    """
    if text is None:
        return None
    text = str(text)
    if text.isdecimal() and int(text) > 0:
        return Processes(int(text))
    if text == "ray":
        return RayCluster("auto")
    if _ADDRESS.fullmatch(text):
        return RayCluster(text)
    raise UsageError(
        f"Workers {text!r:.60} are neither a number of processes nor a Ray cluster. Write "
        "--workers 4, --workers ray, or --workers ray://HOST:10001."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") + "." if lines else f"{type(error).__name__}."
