"""Results as tables for people."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from benchmarks.gpu.bare.case import Case, Row

OURS = "gcompile"

_Cells = tuple[str, ...]
_Figures = dict[tuple[str, str, str], dict[str, dict[str, float]]]

_ALIKE = {"fp32": "fp32/tf32", "tf32": "fp32/tf32"}
"""Ours is exact in float32; the others' products round to ten bits, as they do by default."""


def tables(cases: Sequence[Case], rows: Sequence[Row]) -> str:
    """All results: kernels, models, contenders, and whatever did not pass."""
    of = {case.name: case for case in cases}
    shown = [row for row in rows if row.case in of and row.item]
    parts = [
        _table("Kernels", ("group", "passed", "failed", "no code", "error"), _kernels(of, shown)),
        _table(
            "Artefacts",
            ("artefact", "error", "ms alone", "ms queued", "ms est.", "mJ", "mJ est.", "ratio"),
            _models(of, shown),
        ),
        _table(
            "Contenders",
            ("network", "contender", "ms alone", "ms queued", "mJ", "W"),
            _contenders(of, shown),
        ),
        _table(
            "Contender / gcompile, geometric means",
            ("precision", "contender", "cases", "alone", "queued", "joules"),
            _ratios(of, shown),
        ),
        _table("Large products", ("what", "ms", "Tflop/s", "of cuBLAS"), _products(of, shown)),
        _table("Not passed", ("case", "item", "status", "reason"), _not_passed(of, rows)),
    ]
    return "\n\n".join(part for part in parts if part)


def _kernels(of: dict[str, Case], rows: Sequence[Row]) -> Iterator[_Cells]:
    for case in (c for c in of.values() if c.kind == "kernels"):
        mine = [row for row in rows if row.case == case.name]
        count = {s: sum(row.status == s for row in mine) for s in ("passed", "failed", "absent")}
        error = max((row.figures.get("largest_error", 0.0) for row in mine), default=0.0)
        yield case.name, *(str(number) for number in count.values()), f"{error:.1e}"


def _models(of: dict[str, Case], rows: Sequence[Row]) -> Iterator[_Cells]:
    for case in (c for c in of.values() if c.kind == "artefact"):
        found: dict[str, float] = {}
        for row in rows:
            if row.case == case.name:
                found |= {k: v for k, v in row.figures.items() if isinstance(v, float | int)}
        if found:
            yield (
                case.name,
                _number(found.get("relative_error"), 1.0, ".1e"),
                *(_number(found.get(k), 1e3) for k in ("latency_s", "queued_s", "predicted_s")),
                *(_number(found.get(k), 1e3) for k in ("energy_j", "predicted_energy_j")),
                _number(found.get("of_predicted"), 1.0, ".2f"),
            )


def _by_contender(of: dict[str, Case], rows: Sequence[Row]) -> _Figures:
    """The figures of each contender for each network, precision and batch."""
    found: _Figures = {}
    for row in rows:
        settings = of[row.case].settings
        if "network" in settings and row.figures:
            batch = str(settings.get("batch") or row.item.removeprefix("batch "))
            precision = _ALIKE.get(settings["precision"], settings["precision"])
            key = settings["network"], precision, batch
            name = settings.get("peer", OURS)
            found.setdefault(key, {}).setdefault(name, {}).update(row.figures)
    return found


def _ratios(of: dict[str, Case], rows: Sequence[Row]) -> Iterator[_Cells]:
    """Geometric means of a contender's figure over ours: above 1 where ours is better."""
    found: dict[tuple[str, str], list[tuple[dict[str, float], dict[str, float]]]] = {}
    for (_, precision, _), contenders in _by_contender(of, rows).items():
        ours = contenders.get(OURS)
        for name, theirs in contenders.items() if ours else ():
            if name != OURS and ours:
                found.setdefault((precision, name), []).append((ours, theirs))
    for (precision, name), pairs in sorted(found.items()):
        cells = []
        for what in ("latency_s", "queued_s", "energy_j"):
            both = [(a[what], b[what]) for a, b in pairs if a.get(what) and b.get(what)]
            mean = geometric_mean([b / a for a, b in both]) if both else None
            cells.append(_number(mean, 1.0, ".2f"))
        yield precision, name, str(len(pairs)), *cells


def geometric_mean(ratios: Sequence[float]) -> float:
    """The mean that treats twice as fast and half as fast alike."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def _contenders(of: dict[str, Case], rows: Sequence[Row]) -> Iterator[_Cells]:
    """Everything of one network, precision and batch together, ours first."""
    for (network, precision, batch), contenders in sorted(_by_contender(of, rows).items()):
        for name in sorted(contenders, key=lambda n: n != OURS):
            of_one = contenders[name]
            yield (
                f"{network} {precision} batch {batch}",
                name,
                *(_number(of_one.get(k), 1e3) for k in ("latency_s", "queued_s", "energy_j")),
                _number(of_one.get("power_w"), 1.0, ".0f"),
            )


def _products(of: dict[str, Case], rows: Sequence[Row]) -> Iterator[_Cells]:
    ceilings = {
        row.item: row.figures
        for row in rows
        if of[row.case].kind == "ceiling" and "flop_per_s" in row.figures
    }
    for name, figures in ceilings.items():
        yield (
            f"cuBLAS {name}",
            _number(figures["queued_s"], 1e3),
            _number(figures["flop_per_s"], 1e-12, ".0f"),
            "",
        )
    for row in rows:
        flop, dtype = of[row.case].settings.get("flop"), of[row.case].settings.get("dtype")
        if flop and "queued_s" in row.figures:
            rate = flop / row.figures["queued_s"]
            ceiling = ceilings.get(str(dtype), {}).get("flop_per_s")
            share = f"{rate / ceiling:.0%}" if ceiling else "unknown"
            ms = _number(row.figures["queued_s"], 1e3)
            yield row.case, ms, _number(rate, 1e-12, ".0f"), share


def _not_passed(of: dict[str, Case], rows: Sequence[Row]) -> Iterator[_Cells]:
    for row in rows:
        if row.case in of and row.status != "passed":
            yield row.case, row.item, row.status, row.reason[:150]


def _number(value: float | None, scale: float, form: str = ".3f") -> str:
    return "-" if value is None else f"{value * scale:{form}}"


def _table(title: str, heads: _Cells, lines: Iterator[_Cells]) -> str:
    cells = [heads, *lines]
    if len(cells) == 1:
        return ""
    widths = [max(len(line[i]) for line in cells) for i in range(len(heads))]
    text = (
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(pairs)).rstrip()
        for pairs in ([*zip(line, widths, strict=True)] for line in cells)
    )
    return "\n".join([title, *(f"  {line}" for line in text)])
