"""What the user wants carbon to be counted with, read and checked before any work starts."""

from __future__ import annotations

from dataclasses import dataclass

from gcompile.energy.carbon.countries import zone_intensity
from gcompile.energy.carbon.intensity import Intensity, fixed_intensity
from gcompile.energy.carbon.providers import find_provider
from gcompile.errors import UsageError

INFERENCES = 1_000_000
"""For how many inferences emissions are shown, besides one."""

_SECONDS_PER_YEAR = 365.25 * 86400
_EMBODIED_EXAMPLE = (
    "Write it as --carbon-embodied 150,4 for 150 kgCO2e over 4 years, or 150,4,0.25 for a quarter."
)


@dataclass(frozen=True)
class Embodied:
    """What making the device emitted, and over what that is shared out.

    Attributes:
        kg: kgCO2e of making and moving it, as its maker states.
        lifetime_years: For how long it will be used.
        share: The part of the device that the inference occupies while it runs.
    """

    kg: float
    lifetime_years: float
    share: float = 1.0

    def grams(self, time_s: float) -> float:
        """Return the grams of a use that takes this long: M = TE · TS · RS."""
        return self.kg * 1e3 * time_s / (self.lifetime_years * _SECONDS_PER_YEAR) * self.share


@dataclass(frozen=True)
class Accounting:
    """How carbon is counted.

    Attributes:
        intensity: Of the electricity.
        inferences: For how many inferences a sum is shown.
        embodied: Of the device; None leaves it out and the report says so.
    """

    intensity: Intensity
    inferences: int = INFERENCES
    embodied: Embodied | None = None


def accounting(
    *,
    zone: str | None = None,
    g_per_kwh: float | None = None,
    provider: str | None = None,
    key: str | None = None,
    inferences: int | None = None,
    embodied: str | None = None,
) -> Accounting | None:
    """Put the user's options together, asking the provider if there is one.

    Returns None when no zone and no intensity was given.

    Raises:
        UsageError: The options contradict each other or cannot be read.
        ProviderError: The provider does not answer.
    """
    intensity = _intensity(zone, g_per_kwh, provider, key)
    if intensity is None:
        if inferences is not None or embodied is not None:
            raise UsageError(
                "Carbon cannot be counted without a grid; give --carbon-zone DE or "
                "--carbon-intensity 350."
            )
        return None
    if inferences is not None and inferences < 1:
        raise UsageError(f"--carbon-inferences {inferences} is less than one. Give 1 or more.")
    parsed = parse_embodied(embodied) if embodied is not None else None
    return Accounting(intensity, inferences or INFERENCES, parsed)


def as_accounting(carbon: Accounting | Intensity | str | float | None) -> Accounting | None:
    """Read what a Python caller gives: a zone, grams per kWh, or all of it.

    Raises:
        UsageError: The zone is unknown or the number impossible.
    """
    if carbon is None or isinstance(carbon, Accounting):
        return carbon
    if isinstance(carbon, Intensity):
        return Accounting(carbon)
    if isinstance(carbon, str):
        return Accounting(zone_intensity(carbon))
    return Accounting(fixed_intensity(carbon))


def parse_embodied(text: str) -> Embodied:
    """Read `KG,YEARS` or `KG,YEARS,SHARE`.

    Raises:
        UsageError: It is not of that form.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    kg, years, share = (*numbers, 1.0)[:3] if len(numbers) in (2, 3) else (-1.0, 0.0, 0.0)
    if not (0 <= kg < float("inf") and 0 < years <= 100 and 0 < share <= 1):
        raise UsageError(f"Embodied carbon {text!r:.40} cannot be read. {_EMBODIED_EXAMPLE}")
    return Embodied(kg, years, share)


def _intensity(
    zone: str | None, g_per_kwh: float | None, provider: str | None, key: str | None
) -> Intensity | None:
    if g_per_kwh is not None:
        if zone is not None or provider is not None:
            raise UsageError(
                "--carbon-intensity says how much a kWh emits, and so does --carbon-zone; "
                "give one of them."
            )
        return fixed_intensity(g_per_kwh)
    if provider is not None:
        if zone is None:
            raise UsageError(
                f"The provider {provider!r:.40} needs a zone; add one such as --carbon-zone GB."
            )
        return find_provider(provider, key).intensity(zone)
    return zone_intensity(zone) if zone is not None else None
