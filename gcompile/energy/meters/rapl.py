"""Linux RAPL: the energy counters of the processor packages, through powercap.

Documentation: https://www.kernel.org/doc/html/latest/power/powercap/powercap.html. Since Linux
5.10 only root may read the counters (CVE-2020-8694); virtual machines have none.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path

from gcompile.energy.meters.meter import Boundary, Clock, Mark, SystemClock
from gcompile.errors import MeterError

ROOT = Path("/sys/class/powercap")

_PACKAGE = re.compile(r"intel-rapl:\d+")
_PERMIT = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"


class RaplMeter:
    """Sums the counters of all packages. AMD's processors show theirs under the same name."""

    name = "rapl"
    boundary: Boundary = "chip"
    update_s = 0.001
    reads_live = True

    def __init__(self, root: Path | None = None, clock: Clock | None = None) -> None:
        """Read below `root`, by default the system's powercap folder."""
        self._root = ROOT if root is None else root
        self._clock = clock or SystemClock()

    @property
    def method(self) -> str:
        """Which counters are summed."""
        return f"RAPL powercap counters of {', '.join(self._domains)}"

    def why_unavailable(self) -> str | None:
        """Return why no package can be read, with the remedy, else None."""
        try:
            if not self._domains:
                return (
                    f"RAPL has no processor package in {self._root}: the processor has no "
                    "counters, this is a virtual machine, or the module is not loaded "
                    "(sudo modprobe intel_rapl_msr)"
                )
            self.mark()
        except MeterError as error:
            return str(error)
        return None

    def mark(self) -> Mark:
        """Read every package's counter, in microjoules.

        Raises:
            MeterError: A counter cannot be read.
        """
        counters = {name: _number(folder / "energy_uj") for name, folder in self._domains.items()}
        return Mark(self._clock.now(), counters)

    def energy_j(self, start: Mark, end: Mark) -> float:
        """Return the joules of all packages, across one wrap of each counter.

        Raises:
            MeterError: A counter went back and its range is unknown.
        """
        total_uj = 0.0
        for name, begin_uj in start.readings.items():
            grown_uj = end.readings[name] - begin_uj
            if grown_uj < 0:
                grown_uj += _number(self._domains[name] / "max_energy_range_uj")
            if grown_uj < 0:
                raise MeterError(
                    f"RAPL {name} went back by more than its range, so the machine slept or the "
                    "counter was reset; measure again"
                )
            total_uj += grown_uj
        return total_uj * 1e-6

    @cached_property
    def _domains(self) -> dict[str, Path]:
        """Folders of the packages by name; cores and memory controllers are parts of them."""
        if not self._root.is_dir():
            return {}
        folders = sorted(p for p in self._root.iterdir() if _PACKAGE.fullmatch(p.name))
        named = {folder: _text(folder / "name") for folder in folders}
        return {name: folder for folder, name in named.items() if name.startswith("package")}


def _number(path: Path) -> float:
    text = _text(path)
    try:
        return float(text)
    except ValueError:
        raise MeterError(f"RAPL {path} holds {text!r:.40} where a number belongs") from None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except PermissionError:
        raise MeterError(
            f"RAPL {path} may be read by root only; allow it with `{_PERMIT}`, or run as root"
        ) from None
    except OSError as error:
        raise MeterError(f"RAPL {path} cannot be read: {error.strerror}") from error
