"""Options of `gcompile bench --measure`, and the measurement itself."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.errors import GcompileError, UsageError

if TYPE_CHECKING:
    from gcompile.energy.meters import Meter, Plan
    from gcompile.targets import Target

WINDOWS = 5

_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "min": 60.0}
_LENGTH = re.compile(r"(\d+\.?\d*|\.\d+)\s*([a-z]*)")


class IdleName(StrEnum):
    """Whether the power that is drawn anyway is part of an inference's joules."""

    FULL = "full"
    MARGINAL = "marginal"


MeasureOption = Annotated[
    bool, typer.Option("--measure", help="Read a meter; fail (exit 4) when there is none.")
]
MeterOption = Annotated[
    str | None,
    typer.Option("--meter", help="rapl, nvml, zeus or csv:FILE. [default: the first that works]"),
]
WindowOption = Annotated[
    str | None, typer.Option("--window", help="Length of a measured window. [default: 5s]")
]
IdleOption = Annotated[
    IdleName | None,
    typer.Option("--idle", help="Count all joules, or those above idle. [default: full]"),
]


def read_plan(
    meter: str | None, window: str | None, idle: IdleName | None, repeats: int | None
) -> Plan:
    """Put the options of a measurement together.

    Raises:
        UsageError: The window is no length of time, or the meter's name cannot be read.
    """
    from gcompile.energy.meters import Plan, parse_meter

    if meter is not None:
        parse_meter(meter)
    window_s = 5.0 if window is None else parse_seconds(window)
    return Plan(
        window_s=window_s,
        warmup_s=min(2.0, window_s),  # Timing, which comes first, has warmed it up already.
        repeats=WINDOWS if repeats is None else repeats,
        idle="marginal" if idle is IdleName.MARGINAL else "full",
    )


def refuse_without_measure(meter: str | None, window: str | None, idle: IdleName | None) -> None:
    """Make sure that nobody takes an estimate for a measurement.

    Raises:
        UsageError: An option of a measurement was given, and `--measure` was not.
    """
    given = {"--meter": meter, "--window": window, "--idle": idle}
    if names := [name for name, value in given.items() if value is not None]:
        raise UsageError(f"{names[0]} says how to measure; add --measure.")


def parse_seconds(text: str) -> float:
    """Read `5s`, `500ms`, `1min`, or seconds without a unit.

    Raises:
        UsageError: It is no length of time.
    """
    match = _LENGTH.fullmatch(text.strip())
    if match is None or match[2] not in _UNITS:
        raise UsageError(f"Window {text!r:.40} is no length of time. Write it as 5s or 500ms.")
    return float(match[1]) * _UNITS[match[2]]


def parse_watts(text: str) -> float:
    """Read `300W`, or watts without a unit.

    Raises:
        UsageError: It is no power.
    """
    match = _LENGTH.fullmatch(text.strip().lower())
    if match is None or match[2] not in ("", "w") or not float(match[1]):
        raise UsageError(f"Power {text!r:.40} is no number of watts. Write it as 300 or 300W.")
    return float(match[1])


def ready_meter(plan: Plan, requested: str | None, target_name: str, gpu: int = 0) -> Meter:
    """Return a meter that works here and suits the plan, before anything is timed.

    Raises:
        MeterError: None works; the message lists each with its reason.
        UsageError: Its windows are too short or too long.
    """
    from gcompile.energy.meters import check_plan, pick_meter

    meter = pick_meter(_target(target_name), requested, gpu)
    check_plan(plan, meter)
    return meter


def announce(meter: Meter, plan: Plan, say: Callable[[str], None]) -> None:
    """Say what is read and for how long about."""
    seconds = plan.window_s * (plan.repeats + 4) + plan.warmup_s
    say(f"gcompile: measuring with {meter.method}, about {seconds:.0f} s or more")


def _target(name: str) -> Target | None:
    """Return the artefact's device if it has a name here; a file of the user's may be gone."""
    from gcompile.targets import load_target

    try:
        return load_target(name)
    except GcompileError:
        return None
