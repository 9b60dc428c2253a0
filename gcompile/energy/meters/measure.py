"""Measure a callable: idle, warm up, let it settle, then windows of seconds, repeated.

    full:      J per inference = E / n
    marginal:  J per inference = (E - P_idle · t) / n

A counter that updates every tenth of a second says nothing about one inference, so inferences
are repeated for a window of seconds and the joules divided by their number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from statistics import fmean, median, stdev

from gcompile.energy.meters.measurement import IdlePolicy, Measurement
from gcompile.energy.meters.meter import Clock, Mark, Meter, SystemClock
from gcompile.errors import MeterError, UsageError

UPDATES_PER_WINDOW = 20
"""A window this many updates long is known to a twentieth."""
MAX_WINDOW_S = 120.0
"""A counter of 65 kJ wraps once in this time at 500 W; twice could not be told from once."""

_MAD_TO_SIGMA = 1.4826
_OUTLIER_SIGMAS = 3.5


@dataclass(frozen=True)
class Plan:
    """How to measure.

    Attributes:
        window_s: Length of one window; it ends with the inference that passes it.
        repeats: Windows that count.
        idle: Whether idle power is part of the joules.
        warmup_s: How long to run before anything is read.
        drift_limit: Relative change between two windows at which the device counts as settled.
        settling_windows: The most windows that are spent on settling.
    """

    window_s: float = 5.0
    repeats: int = 5
    idle: IdlePolicy = "full"
    warmup_s: float = 2.0
    drift_limit: float = 0.02
    settling_windows: int = 8


@dataclass(frozen=True)
class Window:
    """Inferences that ran between two marks; none in an idle window."""

    start: Mark
    end: Mark
    inferences: int

    @property
    def seconds(self) -> float:
        """Return its length."""
        return self.end.at_s - self.start.at_s


def measure(
    run: Callable[[], object],
    meter: Meter,
    plan: Plan | None = None,
    clock: Clock | None = None,
    inferences: int = 1,
) -> Measurement:
    """Measure what one inference costs.

    Args:
        run: One or more inferences; it returns when the work is done.
        meter: What reads the joules.
        plan: Windows, repeats and the idle policy.
        clock: The machine's clock unless a test brings its own.
        inferences: How many one call of `run` makes.

    Raises:
        UsageError: The plan does not fit the meter.
        MeterError: The meter is unavailable, or its readings cannot be used.
    """
    plan, clock = plan or Plan(), clock or SystemClock()
    check_plan(plan, meter)
    if reason := meter.why_unavailable():
        raise MeterError(reason)
    resting = [_idle(meter, plan, clock)]
    _run_for(run, plan.warmup_s, clock)
    settling = _settle(run, meter, plan, clock)
    measured = [_loaded(run, meter, plan, clock) for _ in range(plan.repeats)]
    windows = [replace(window, inferences=window.inferences * inferences) for window in measured]
    resting.append(_idle(meter, plan, clock))
    return _summary(meter, plan, resting, settling, windows)


def idle_power_w(meter: Meter, plan: Plan | None = None, clock: Clock | None = None) -> float:
    """Return the power of the meter's boundary while this process does nothing.

    Raises:
        UsageError: The plan does not fit the meter.
        MeterError: The meter is unavailable, or its readings cannot be used.
    """
    plan, clock = plan or Plan(), clock or SystemClock()
    check_plan(plan, meter)
    if reason := meter.why_unavailable():
        raise MeterError(reason)
    return _power_w(meter, [_idle(meter, plan, clock)])


def check_plan(plan: Plan, meter: Meter) -> None:
    """Make sure that windows are long enough for the meter.

    Raises:
        UsageError: They are not, or the plan has no windows.
    """
    if plan.repeats < 1:
        raise UsageError(f"{plan.repeats} repeats measure nothing. Give 1 or more, such as 5.")
    shortest = meter.update_s * UPDATES_PER_WINDOW
    if not shortest <= plan.window_s <= MAX_WINDOW_S or plan.window_s <= 0:
        raise UsageError(
            f"A window of {plan.window_s:g} s does not fit the meter {meter.name}, which updates "
            f"every {meter.update_s:g} s. Give {max(shortest, 0.001):g} s to {MAX_WINDOW_S:g} s."
        )


def _idle(meter: Meter, plan: Plan, clock: Clock) -> Window:
    start = meter.mark()
    clock.sleep(plan.window_s)
    return Window(start, meter.mark(), 0)


def _loaded(run: Callable[[], object], meter: Meter, plan: Plan, clock: Clock) -> Window:
    start = meter.mark()
    inferences = _run_for(run, plan.window_s, clock)
    return Window(start, meter.mark(), inferences)


def _run_for(run: Callable[[], object], seconds: float, clock: Clock) -> int:
    """Repeat until the time is over, at least once, and count."""
    end, count = clock.now() + seconds, 0
    while not count or clock.now() < end:
        run()
        count += 1
    return count


def _settle(
    run: Callable[[], object], meter: Meter, plan: Plan, clock: Clock
) -> tuple[Window, ...]:
    """Repeat until two windows agree; where joules come later, two windows have to do."""
    windows = [_loaded(run, meter, plan, clock) for _ in range(min(2, plan.settling_windows))]
    while (
        meter.reads_live
        and len(windows) < plan.settling_windows
        and _drift(meter, windows) > plan.drift_limit
    ):
        windows.append(_loaded(run, meter, plan, clock))
    return tuple(windows)


def _drift(meter: Meter, windows: Sequence[Window]) -> float:
    if len(windows) < 2:
        return 0.0
    before, after = (meter.energy_j(w.start, w.end) / w.inferences for w in windows[-2:])
    return abs(after / before - 1) if before > 0 else float("inf")


def _summary(
    meter: Meter,
    plan: Plan,
    resting: Sequence[Window],
    settling: Sequence[Window],
    windows: Sequence[Window],
) -> Measurement:
    idle_w = _power_w(meter, resting)
    charged_w = idle_w if plan.idle == "marginal" else 0.0
    joules = [
        (meter.energy_j(w.start, w.end) - charged_w * w.seconds) / w.inferences for w in windows
    ]
    kept = keep(joules)
    per_inference = fmean(joules[i] for i in kept)
    if not per_inference > 0:
        raise MeterError(_nothing_read(meter, plan, idle_w))
    counted = [windows[i] for i in kept]
    inferences, seconds = sum(w.inferences for w in counted), sum(w.seconds for w in counted)
    drift = _drift(meter, settling)
    return Measurement(
        joules_per_inference=per_inference,
        stdev_j=stdev(joules[i] for i in kept) if len(kept) > 1 else 0.0,
        repeats=len(kept),
        discarded=len(joules) - len(kept),
        window_s=seconds / len(kept),
        inferences=inferences,
        seconds_per_inference=seconds / inferences,
        power_w=_power_w(meter, counted),
        idle_w=idle_w,
        idle_policy=plan.idle,
        boundary=meter.boundary,
        method=meter.method,
        started_at=datetime.fromtimestamp(windows[0].start.at_s, UTC),
        settled=drift <= plan.drift_limit,
        drift=drift,
        windows_j=tuple(joules),
    )


def keep(values: Sequence[float]) -> list[int]:
    """Return the places of the values that are no outliers.

    Outliers lie more than 3.5 standard deviations from the median, estimated from the median
    absolute deviation (Iglewicz and Hoaglin, 1993), but never within 1 % of it. More than half of
    the values always stay.
    """
    middle = median(values)
    sigma = _MAD_TO_SIGMA * median(abs(value - middle) for value in values)
    reach = max(_OUTLIER_SIGMAS * sigma, 0.01 * abs(middle))
    return [i for i, value in enumerate(values) if abs(value - middle) <= reach]


def _power_w(meter: Meter, windows: Sequence[Window]) -> float:
    seconds = sum(window.seconds for window in windows)
    return sum(meter.energy_j(window.start, window.end) for window in windows) / seconds


def _nothing_read(meter: Meter, plan: Plan, idle_w: float) -> str:
    if plan.idle == "marginal":
        return (
            f"The meter {meter.name} reads no more under load than the {idle_w:.3g} W at idle, so "
            "nothing is left for the inference; stop other work on the machine, or use "
            "--idle full."
        )
    return f"The meter {meter.name} read no joules at all; choose another one with --meter."
