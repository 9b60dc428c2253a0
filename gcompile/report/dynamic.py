"""Energy as a function of the free dimensions of a model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from gcompile.report.quantity import format_energy, format_share, format_time, printable
from gcompile.report.report import (
    DimensionSection,
    DynamicSection,
    FitSection,
    Report,
    SizeSection,
)
from gcompile.runtime.ladder import Dimension


def dynamic_section(
    dimensions: Sequence[Dimension],
    rungs: Mapping[str, Mapping[str, int]],
    reports: Mapping[str, Report],
) -> DynamicSection:
    """Put the joules of all sizes together, and fit them.

    Args:
        dimensions: What stays free.
        rungs: The sizes of each entry point, by its name.
        reports: On each entry point.
    """
    points = [
        SizeSection(
            entry=entry,
            sizes=dict(sizes),
            energy_j=reports[entry].energy.after.energy_j,
            low_j=reports[entry].energy.after.low_j,
            high_j=reports[entry].energy.after.high_j,
            time_s=reports[entry].energy.after.time_s,
        )
        for entry, sizes in rungs.items()
    ]
    points.sort(key=lambda point: list(point.sizes.values()))
    return DynamicSection(
        dimensions=[
            DimensionSection(
                name=each.name,
                kind=each.kind.value,
                sizes=sorted({sizes[each.name] for sizes in rungs.values()}),
            )
            for each in dimensions
        ],
        points=points,
        fit=fit([(point.sizes, point.energy_j) for point in points]),
    )


def fit(points: Sequence[tuple[Mapping[str, int], float]]) -> FitSection:
    """Fit joules by a constant and the products of sizes, the relative errors least squares.

    With one dimension that is a line. Dimensions with a single size take no part. Attention grows
    with the square of a length: how far the sum is off is said with it.

    Args:
        points: Sizes, and the joules of one run.
    """
    varied = [n for n in points[0][0] if len({sizes[n] for sizes, _ in points}) > 1]
    products = [
        names
        for count in range(len(varied) + 1)
        for names in itertools.combinations(varied, count)
    ]
    energies = np.array([energy_j for _, energy_j in points])
    columns = np.array(
        [[math.prod(sizes[name] for name in names) for names in products] for sizes, _ in points],
        float,
    )
    scale = energies if energies.all() else np.ones_like(energies)
    terms, *_ = np.linalg.lstsq(columns / scale[:, None], energies / scale, rcond=None)
    off = np.abs(columns @ terms - energies) / scale
    return FitSection(
        terms={"*".join(names) or "1": float(j) for names, j in zip(products, terms, strict=True)},
        max_relative_error=float(off.max()),
    )


def dynamic_rows(section: DynamicSection) -> list[tuple[str, str]]:
    """Label and sentence for each dimension, each size and the fit."""
    rows = [(f"free {printable(each.name)}", _between(each)) for each in section.dimensions]
    for point in section.points:
        label = ", ".join(f"{printable(name)} {size}" for name, size in point.sizes.items())
        count = math.prod(point.sizes.values())
        energy = (
            f"{format_energy(point.energy_j)} per run "
            f"({format_energy(point.low_j)} to {format_energy(point.high_j)})"
        )
        each = (
            f"{format_energy(point.energy_j / count)} for each of {count}; " if count > 1 else ""
        )
        rows.append((label, f"{energy}; {each}{format_time(point.time_s)} estimated"))
    if len(section.points) > 1:
        rows.append(("energy by size", _formula(section.fit)))
    return rows


def _between(section: DimensionSection) -> str:
    """What runs besides the sizes that were compiled."""
    compiled = ", ".join(map(str, section.sizes))
    besides = {
        "rows": "any number of rows is divided among these",
        "padded": "what is shorter is filled up with zeros",
        "exact": "no other size runs",
    }
    return f"compiled for {compiled}; {besides[section.kind]}"


def _formula(found: FitSection) -> str:
    parts = []
    for name, joules in found.terms.items():
        factor = "" if name == "1" else f" x {printable(name.replace('*', ' x '))}"
        parts.append(f"{'-' if joules < 0 else '+'} {format_energy(abs(joules))}{factor}")
    formula = " ".join(parts).removeprefix("+ ")
    return f"about {formula} per run, within {format_share(found.max_relative_error)}"
