"""Turn measured rows and the amounts of their models into a calibrated target."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import partial

import numpy as np

from gcompile.energy.calibration.fit import fit, intervals, scale_of
from gcompile.energy.calibration.prior import Prior, Vector, prior_of
from gcompile.energy.calibration.rows import MeasuredRow
from gcompile.energy.calibration.terms import TERMS
from gcompile.energy.calibration.validate import family_errors, fold_errors
from gcompile.errors import UsageError
from gcompile.ir import Precision
from gcompile.targets import Calibration, Coefficient, CoefficientSet, Source, Target

MIN_ROWS = 6
MIN_SPREAD = 1.5
"""The largest model must do this many times the work of the smallest."""
MIN_DIRECTIONS = 3
_SMALL_DIRECTION = 0.01
_MAX_FROM_TYPICAL = 100.0
_POWER_MARGIN = 30.0
_ERROR_FLOOR = 0.02
_BAND_PERCENTILE = 95
_OTHER_FAMILY = 2.0
"""How much worse other architectures are predicted than those of the rows, on 26 boards."""


@dataclass(frozen=True)
class Observation:
    """A measured row with what its model does.

    Attributes:
        precision: The coefficients that the row is fitted for.
        amounts: Amount of each term, summed over the model's regions.
        family: Equal for networks of one architecture, whatever their width and resolution.
    """

    row: MeasuredRow
    precision: Precision
    amounts: Mapping[str, float]
    family: Hashable


def calibrated(base: Target, observations: Iterable[Observation], source: str) -> Target:
    """Return the base with coefficients fitted to the rows; its boundary becomes the wall.

    Args:
        base: The device, uncalibrated; a calibration it already has is replaced.
        observations: Rows of one or more precisions.
        source: Where the rows come from.

    Raises:
        UsageError: The rows cannot determine the coefficients, or cannot be joules.
    """
    if base.kind == "accelerator":
        raise UsageError(
            f"Target {base.name} is described for estimates only: nothing can be measured on it. "
            "Calibrate a cpu or gpu target."
        )
    by_precision: dict[Precision, list[Observation]] = {}
    for observation in observations:
        by_precision.setdefault(observation.precision, []).append(observation)
    _check_power(base, [o.row for group in by_precision.values() for o in group])
    fits = [_fit_set(precision, group) for precision, group in by_precision.items()]
    fits.sort(key=lambda found: -found[0].precision.bits)
    error = max(band for _, band in fits)
    stated = Source(f"{_BAND_PERCENTILE}th percentile of errors on rows held out", "measured")
    return replace(
        base,
        boundary="wall",
        calibrated=True,
        relative_error=error,
        ratio_error=min(base.ratio_error, error),
        sources=dict(base.sources) | {"relative_error": stated, "ratio_error": stated},
        calibration=Calibration(
            source, "measured", date.today().isoformat(), tuple(found for found, _ in fits)
        ),
    )


def _fit_set(
    precision: Precision, observations: Sequence[Observation]
) -> tuple[CoefficientSet, float]:
    """Return the coefficients of one precision, and the half-width of its band of errors."""
    prior = prior_of(precision)
    amounts = np.array([[o.amounts.get(term, 0.0) for term in TERMS] for o in observations])
    joules = np.array([o.row.energy_j for o in observations])
    _check_determined(precision, amounts, prior)
    _check_units(observations, amounts, joules, prior)
    fitter = partial(fit, prior=prior)
    folds = fold_errors(amounts, joules, fitter)
    families = family_errors(amounts, joules, [o.family for o in observations], fitter)
    seconds = np.array([o.row.time_s or 0.0 for o in observations])
    held_out = folds * _OTHER_FAMILY if families is None else families
    band = max(float(np.percentile(np.abs(held_out), _BAND_PERCENTILE)), _ERROR_FLOOR)
    found = CoefficientSet(
        precision=precision,
        rows=len(observations),
        fold_error=float(np.abs(folds).mean()),
        family_error=None if families is None else float(np.abs(families).mean()),
        energy_j=_coefficients(amounts, joules, prior),
        time_s=_coefficients(amounts, seconds, prior) if seconds.all() else {},
    )
    return found, band


def _coefficients(amounts: Vector, measured: Vector, prior: Prior) -> dict[str, Coefficient]:
    values = fit(amounts, measured, prior)
    low, high = intervals(amounts, measured, prior)
    return {
        term: Coefficient(float(values[i]), float(low[i]), float(high[i]))
        for i, term in enumerate(TERMS)
    }


def _check_determined(precision: Precision, amounts: Vector, prior: Prior) -> None:
    """Refuse rows that leave the coefficients to the prior."""
    if len(amounts) < MIN_ROWS:
        raise UsageError(
            f"{len(amounts)} rows of {precision} cannot determine {len(TERMS)} coefficients. "
            f"Measure {MIN_ROWS} or more models of different sizes in this precision."
        )
    typical = amounts @ prior.mean
    if typical.max() < MIN_SPREAD * typical.min():
        raise UsageError(
            f"All {precision} rows are of models of about the same size, which cannot tell "
            "compute from what every inference costs. Add a model at least "
            f"{MIN_SPREAD:g} times larger or smaller."
        )
    shares = amounts * prior.mean / typical[:, None]
    strength = np.linalg.svd(shares, compute_uv=False)
    if int((strength > _SMALL_DIRECTION * strength[0]).sum()) < MIN_DIRECTIONS:
        raise UsageError(
            f"The {precision} rows are singular: their models differ in scale only, so that every "
            "term grows alike. Add models of other widths, resolutions or architectures."
        )


def _check_units(
    observations: Sequence[Observation], amounts: Vector, joules: Vector, prior: Prior
) -> None:
    """Refuse a row that costs a hundred times what its peers say."""
    relative = joules / (amounts @ prior.mean * scale_of(amounts / joules[:, None], prior))
    off = np.abs(np.log(relative))
    worst = int(off.argmax())
    if off[worst] > np.log(_MAX_FROM_TYPICAL):
        observation = observations[worst]
        raise UsageError(
            f"{observation.row.energy_j:g} J for {observation.row.label} is "
            f"{relative[worst]:.3g} times what the other rows suggest: units are mixed up, or it "
            "is another model. Give joules per inference in every row."
        )


def _check_power(base: Target, rows: Sequence[MeasuredRow]) -> None:
    """Refuse joules per second that the device cannot draw."""
    watts = [row.energy_j / row.time_s for row in rows if row.time_s]
    if not watts:
        return
    typical, full = float(np.median(watts)), _full_power_w(base)
    if not full / _POWER_MARGIN**2 < typical < full * _POWER_MARGIN:
        raise UsageError(
            f"energy_j / time_s is {typical:.3g} W in the middle row, but {base.name} draws about "
            f"{full:.3g} W at full load: units are mixed up. Give joules and seconds of one "
            "inference, not millijoules or milliseconds."
        )


def _full_power_w(target: Target) -> float:
    dynamic = max(unit.op_j * unit.peak_ops_per_s for unit in target.units)
    return target.static_w + target.cores * target.core_w + dynamic
