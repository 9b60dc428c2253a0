"""What the user allows: joules or emissions per inference, and a loss of accuracy."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

from gcompile.energy.carbon import Intensity
from gcompile.errors import UsageError
from gcompile.report.quantity import format_energy, format_grams, format_share

_JOULES = {
    "nJ": 1e-9,
    "uJ": 1e-6,
    "µJ": 1e-6,
    "μJ": 1e-6,
    "mJ": 1e-3,
    "J": 1.0,
    "kJ": 1e3,
    "uWh": 3.6e-3,
    "mWh": 3.6,
    "Wh": 3600.0,
    "kWh": 3.6e6,
}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_GRAMS = {"ugCO2e": 1e-6, "µgCO2e": 1e-6, "mgCO2e": 1e-3, "gCO2e": 1.0, "kgCO2e": 1e3}
_EXAMPLES = "Write it as 50mJ, 50uJ/inference, 50J/1000, 0.2Wh/1000, 5gCO2e/1000 or -40%."
_NUMBER = r"(?P<number>[+-]?(?:\d[\d_]*\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
_ABSOLUTE = re.compile(
    rf"{_NUMBER}\s*(?P<unit>[^\W\d_]*(?:[Cc][Oo]2[^\W\d_]*)?)(?:\s*/\s*(?P<per>.+))?"
)
_RELATIVE = re.compile(rf"{_NUMBER}\s*%")
_ONE_INFERENCE = frozenset({"inference", "inf", "sample", "row"})


@dataclass(frozen=True, slots=True)
class Budget:
    """Joules per inference: absolute, as a saving, or as what may be emitted.

    A saving counts from the same model compiled with the exact passes only, so that nothing is
    won by a slow baseline. Emissions become joules once the grid is known.

    Attributes:
        requested: The budget as the user wrote it.
        energy_j: Joules per inference; None for a relative budget, and for emissions before `on`.
        saving: The fraction of the energy to save; None for an absolute budget.
        gco2e: Grams of CO2 equivalent per inference; None unless the budget is written so.
    """

    requested: str
    energy_j: float | None = None
    saving: float | None = None
    gco2e: float | None = None

    @classmethod
    def parse(cls, text: str | Budget) -> Budget:
        """Read `50mJ`, `50J/1000` (per thousand inferences), `0.2Wh`, `5gCO2e/1000` or `-40%`.

        Raises:
            UsageError: The text is no budget; the message says why and shows how to write one.
        """
        if isinstance(text, Budget):
            return text
        written = text.strip()
        if match := _RELATIVE.fullmatch(written):
            return cls(written, saving=_saving(written, float(match["number"])))
        match = _ABSOLUTE.fullmatch(written)
        if match is None:
            raise UsageError(f"Budget {written!r:.60} is not a number with a unit. {_EXAMPLES}")
        is_carbon = match["unit"] in _GRAMS
        scale = _GRAMS[match["unit"]] if is_carbon else _joules_of(written, match["unit"])
        amount = float(match["number"]) * scale / _inferences(written, match["per"])
        if not (amount > 0 and math.isfinite(amount)):
            raise UsageError(
                f"Budget {written!r:.60} must be more than zero and finite. {_EXAMPLES}"
            )
        return cls(written, gco2e=amount) if is_carbon else cls(written, energy_j=amount)

    def on(self, grid: Intensity | None) -> Budget:
        """The budget in joules, emissions converted by what the grid emits.

        Raises:
            UsageError: It is written as emissions, and no grid is given or its power is clean.
        """
        if self.gco2e is None:
            return self
        if grid is None:
            raise self._without_grid()
        return replace(self, energy_j=grid.energy_j(self.gco2e))

    def limit_j(self, exact_j: float) -> float:
        """Joules one inference may cost, given what the exactly compiled model costs.

        Raises:
            UsageError: It is written as emissions and was not put on a grid.
        """
        if self.energy_j is not None:
            return self.energy_j
        if self.gco2e is not None:
            raise self._without_grid()
        return exact_j * (1 - (self.saving or 0.0))

    @property
    def echo(self) -> str:
        """What was understood, for the user to check."""
        if self.gco2e is not None:
            joules = f", {format_energy(self.energy_j)}" if self.energy_j is not None else ""
            return f"{format_grams(self.gco2e)}{joules} per inference"
        if self.energy_j is not None:
            return f"{format_energy(self.energy_j)} per inference"
        return f"{format_share(self.saving or 0.0)} less than the model compiled exactly"

    def _without_grid(self) -> UsageError:
        return UsageError(
            f"Budget {self.requested!r:.60} is in emissions, which depend on the grid; add "
            "--carbon-zone DE or --carbon-intensity 350, or give the budget in joules."
        )


def parse_drop(drop: str | float) -> float:
    """Read the accuracy that may be lost: `1%`, `0.01` or a number between 0 and 1.

    Raises:
        UsageError: It is not a fraction from 0 up to, not including, 1.
    """
    written = str(drop).strip()
    remedy = "Write it as 1% or 0.01."
    try:
        value = float(written.removesuffix("%"))
    except ValueError:
        raise UsageError(f"Accuracy drop {written!r:.60} is not a number. {remedy}") from None
    value = value / 100 if written.endswith("%") else value
    if value >= 1:
        raise UsageError(
            f"Accuracy drop {written!r:.60} means {format_share(value)}, "
            f"which allows any result. {remedy}"
        )
    if not value >= 0:
        raise UsageError(f"Accuracy drop {written!r:.60} must not be negative. {remedy}")
    return value


def parse_duration(text: str | float | None) -> float | None:
    """Read a time in seconds: a number of seconds, or `90s`, `10m`, `2h`; None stays None.

    Raises:
        UsageError: It is no positive time.
    """
    if text is None:
        return None
    written = str(text).strip().lower()
    unit = written[-1:] if written[-1:] in _SECONDS else ""
    try:
        seconds = float(written.removesuffix(unit)) * _SECONDS.get(unit, 1.0)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(f"{written!r:.60} is no time. Write it as 90s, 10m or 2h.")
    return seconds


def _saving(written: str, percent: float) -> float:
    if percent >= 0:
        raise UsageError(
            f"Budget {written!r:.60} has no minus sign: a relative budget is a saving, "
            f"such as -40% for 40 % less energy than the model compiled exactly. {_EXAMPLES}"
        )
    if not percent > -100:
        raise UsageError(f"Budget {written!r:.60} leaves no energy at all. {_EXAMPLES}")
    return -percent / 100


def _joules_of(written: str, unit: str) -> float:
    if unit in _JOULES:
        return _JOULES[unit]
    raise UsageError(f"Budget {written!r:.60} {_unit_problem(unit)}. {_EXAMPLES}")


def _unit_problem(unit: str) -> str:
    if not unit:
        return "has no unit"
    if unit in ("MJ", "GJ"):
        return f"is in {unit}, far more than an inference can cost (mJ is a thousandth of a joule)"
    if unit.lower() in ("w", "mw", "kw", "uw", "watt", "watts"):
        return f"is in {unit}, which is power; a budget is energy, power times seconds"
    if unit.lower() in ("s", "ms", "us", "ns", "sec", "seconds"):
        return f"is in {unit}, which is time; a budget is energy"
    if "co2" in unit.lower():
        return f"is in {unit:.20}; emissions are written in {', '.join(_GRAMS)}"
    known = {name.lower(): name for name in _JOULES}
    if unit.lower() in known:
        return f"has the unit {unit!r}; capital letters matter: {known[unit.lower()]!r}"
    return f"has the unknown unit {unit!r:.20}; known units are {', '.join(_JOULES)}"


def _inferences(written: str, per: str | None) -> float:
    if per is None or per in _ONE_INFERENCE:
        return 1.0
    digits = per.replace("_", "").replace(",", "").removesuffix(" inferences")
    if not digits.isdecimal() or int(digits) == 0:
        raise UsageError(
            f"Budget {written!r:.60} is divided by {per!r:.20}; what follows the slash is a "
            f"number of inferences, or the word inference. {_EXAMPLES}"
        )
    return float(int(digits))
