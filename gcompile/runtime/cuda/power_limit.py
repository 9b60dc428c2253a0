"""Hold another power limit for a while, and give the old one back whatever happens.

The driver keeps a limit after the process that set it is gone. So another process, which ignores
signals, waits for the end of this one and restores it: also when this one is killed.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gcompile.errors import BackendUnavailableError, MeterError, RunError, UsageError
from gcompile.runtime.cuda.driver import driver
from gcompile.runtime.cuda.nvml import NotPermittedError, nvml

_READY = "ready\n"
_LIMIT_S = 20.0
_TOLERANCE_W = 1e-3


@contextmanager
def power_limit(device: int, watts: float) -> Iterator[None]:
    """Make a GPU hold a power limit while the block runs.

    Args:
        device: Which GPU, as the CUDA driver counts.
        watts: The limit.

    Raises:
        UsageError: The card does not take this limit.
        MeterError: There is no GPU, limits may not be set here, or the old one was not restored.
    """
    try:
        bus_id = driver().bus_id(device)
        card = nvml().card(bus_id)
        limits = card.limits
    except (BackendUnavailableError, RunError) as error:
        reason = str(error).rstrip(".")
        raise MeterError(f"The power limit cannot be set here: {reason}.") from error
    if not limits.lowest <= watts <= limits.highest:
        raise UsageError(
            f"GPU {device} takes power limits from {limits.lowest:g} to {limits.highest:g} W, not "
            f"{watts:g} W."
        )
    guard = _Guard(bus_id, limits.now)
    try:
        try:
            card.set_limit(watts)
        except NotPermittedError as error:
            raise MeterError(
                f"The power limit of GPU {device} may be set by administrators alone; run as "
                "root, or leave --apply-power-cap out."
            ) from error
        yield
    finally:
        guard.restore()


@dataclass
class _Guard:
    """The parent's side of the process that restores the limit when its input ends."""

    bus_id: str
    watts: float

    def __post_init__(self) -> None:
        module = [sys.executable, "-m", "gcompile.runtime.cuda.power_limit"]
        self.process = subprocess.Popen(
            [*module, self.bus_id, str(self.watts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        said = self.process.stdout.readline() if self.process.stdout else ""
        if said != _READY:
            self._close()
            raise MeterError(
                "The power limit is not set, because nothing could be started that restores it."
            )

    def restore(self) -> None:
        """Let it restore the limit, and wait until it has."""
        if self._close():
            raise MeterError(
                f"The power limit of the GPU at {self.bus_id} was not restored; set it with "
                f"`nvidia-smi -i {self.bus_id} -pl {self.watts:g}`."
            )

    def _close(self) -> int:
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        try:
            return self.process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            return 1


def main(bus_id: str, watts: float) -> None:
    """Wait for the end of the standard input, then restore a limit where it is another one."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    card = nvml().card(bus_id)
    sys.stdout.write(_READY)
    sys.stdout.flush()
    sys.stdin.read()
    if abs(card.limits.now - watts) > _TOLERANCE_W:
        card.set_limit(watts)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
