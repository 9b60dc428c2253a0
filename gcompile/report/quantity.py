"""Quantities as people read them: joules, seconds and shares with three significant digits."""

from __future__ import annotations

_PREFIXES = ((1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"))


def format_energy(energy_j: float) -> str:
    """Joules with the unit that keeps the number short: `1.23 mJ`."""
    return _with_prefix(energy_j, "J")


def format_grams(grams: float) -> str:
    """Grams of CO2 equivalent with the unit that keeps the number short: `1.23 mgCO2e`."""
    return _with_prefix(grams, "gCO2e")


def format_time(time_s: float) -> str:
    """Seconds with the unit that keeps the number short: `45.6 us`."""
    if abs(time_s) >= 100:
        return f"{time_s:,.0f} s"
    return _with_prefix(time_s, "s")


def format_change(before: float, after: float) -> str:
    """The relative change from one number to another: `-41.2 %`, or `=` when there is none."""
    if before == after:
        return "="
    if not before:
        return "new"
    return f"{(after / before - 1) * 100:+.1f} %"


def format_share(share: float) -> str:
    """A fraction as a percentage: `41.2 %`."""
    return f"{share * 100:.1f} %"


def printable(text: str) -> str:
    """Text from a model file with control characters replaced: it may be hostile."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def _with_prefix(value: float, unit: str) -> str:
    if not value:
        return f"0 {unit}"
    rounded = float(f"{value:.3g}")
    factor, prefix = next(
        ((factor, prefix) for factor, prefix in _PREFIXES if abs(rounded) >= factor),
        _PREFIXES[-1],
    )
    return f"{_three_digits(float(f'{rounded / factor:.3g}'))} {prefix}{unit}"


def _three_digits(value: float) -> str:
    """Three significant digits, never in exponent form for the sizes that occur."""
    magnitude = abs(value)
    decimals = 2 if magnitude < 10 else 1 if magnitude < 100 else 0
    return f"{value:.3g}" if magnitude < 1 else f"{value:.{decimals}f}"
