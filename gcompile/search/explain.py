"""Say in a sentence what a search found, and which constraint binds."""

from __future__ import annotations

from gcompile.search.point import Point, Status, precision_counts

_SAME = 1.01
"""Energies within 1 % are the same point: calibrations of one choice differ by a constant."""


def explain(
    status: Status,
    best: Point,
    closest: Point,
    lowest_j: float,
    limit_j: float | None,
    baseline: float | None,
    max_drop: float | None,
) -> str:
    """One or two sentences for the report.

    Args:
        status: The outcome.
        best: The point that will be built.
        closest: The point of least energy known to keep the accuracy.
        lowest_j: The least energy of all points looked at.
        limit_j: The budget, in joules per inference.
        baseline: The accuracy of the float model.
        max_drop: The loss of accuracy allowed.
    """
    found = f"{format_energy(best.energy_j)} with {_formats(best)}{_accuracy(best, baseline)}"
    if status is Status.OK:
        asked = f", {format_energy(limit_j)} allowed" if limit_j is not None else ""
        return (
            f"Found {format_energy(best.energy_j)}{asked}, with {_formats(best)}"
            f"{_accuracy(best, baseline)}."
        )
    assert limit_j is not None
    limit = format_energy(limit_j)
    if status is Status.BUDGET_NOT_MET and closest.energy_j <= lowest_j * _SAME:
        return (
            f"The budget of {limit} binds: the least energy this model reaches on this target is "
            f"{found}."
        )
    if status is Status.BUDGET_NOT_MET:
        return (
            f"The budget of {limit} and the accuracy bind: the least energy reached is "
            f"{format_energy(lowest_j)}, and the least that keeps the accuracy is {found}."
        )
    return (
        f"The accuracy binds: within {limit} the best point found has {found}, and "
        f"{max_drop:g} may be lost. The least energy found that keeps the accuracy is "
        f"{format_energy(closest.energy_j)} with {_formats(closest)}"
        f"{_accuracy(closest, baseline)}."
    )


def format_energy(energy_j: float) -> str:
    """Joules with three digits and the prefix that suits them."""
    for factor, unit in ((1.0, "J"), (1e-3, "mJ"), (1e-6, "uJ"), (1e-9, "nJ")):
        if abs(energy_j) >= factor:
            return f"{energy_j / factor:.3g} {unit}"
    return f"{energy_j / 1e-12:.3g} pJ"


def _formats(point: Point) -> str:
    counts = precision_counts(point.choice)
    listed = [f"{count} in {p}" for p, count in sorted(counts.items(), key=lambda item: item[0])]
    regions = "region" if sum(counts.values()) == 1 else "regions"
    pruned = f", pruned in {point.pruned} places" if point.pruned else ""
    return f"{', '.join(listed)} ({sum(counts.values())} {regions} with products){pruned}"


def _accuracy(point: Point, baseline: float | None) -> str:
    if point.accuracy is None:
        return ", accuracy not measured"
    if baseline is None:
        return f", accuracy {point.accuracy:.4g}"
    return f", accuracy {point.accuracy:.4g} against {baseline:.4g} in fp32"
