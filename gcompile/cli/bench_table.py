"""What `gcompile bench` found, for people."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from gcompile.report import BenchEnergy, BenchResult


def bench_table(result: BenchResult) -> Table:
    """A table of the figures."""
    from rich.table import Table
    from rich.text import Text

    from gcompile.report import carbon_rows
    from gcompile.report.layout import threads_text
    from gcompile.report.quantity import format_time, printable

    latency = result.latency_s
    rows = [
        ("model", f"{result.model} for {result.target}, {threads_text(result.threads)}"),
        (
            "latency",
            f"median {format_time(latency.median)}, p95 {format_time(latency.p95)}, "
            f"min {format_time(latency.min)} ({result.repeats} runs after {result.warmup})",
        ),
        ("CPU time", f"{format_time(result.cpu_time_s)} per inference"),
        ("throughput", f"{result.throughput_per_s:,.0f} inferences per second"),
        ("energy", _energy_text(result.energy)),
    ]
    if result.device_bytes is not None:
        rows.append(("GPU memory", f"{result.device_bytes / 2**20:,.1f} MiB"))
    if result.power_limit_w is not None:
        rows.append(("power limit", f"{result.power_limit_w:g} W, while it was measured"))
    if result.predicted is not None:
        rows.append(("  predicted", _energy_text(result.predicted)))
    table = Table.grid(padding=(0, 2))
    for label, value in (*rows, *carbon_rows(result.carbon)):
        table.add_row(Text(label, "bold"), Text(printable(value)))
    return table


def _energy_text(energy: BenchEnergy) -> str:
    from gcompile.report.quantity import format_energy

    joules = energy.joules_per_inference
    amount = "unknown" if joules is None else format_energy(joules)
    if energy.provenance != "measured":
        return f"{amount} per inference, {energy.provenance} ({energy.method})"
    spread = format_energy(energy.stdev_j or 0.0)
    return f"{amount} ± {spread} per inference, measured ({'; '.join(_metering(energy))})"


def _metering(energy: BenchEnergy) -> Iterator[str]:
    """Everything that is needed to believe a measurement."""
    from gcompile.report.quantity import format_time

    yield f"{energy.method}, {energy.boundary} boundary"
    left_out = f", {energy.discarded} left out" if energy.discarded else ""
    yield (
        f"{energy.repeats} windows of {format_time(energy.window_s or 0.0)}{left_out}, "
        f"{energy.inferences:,} inferences"
    )
    counted = "included" if energy.idle_policy == "full" else "subtracted"
    yield f"{energy.power_w:.3g} W, idle {energy.idle_w:.3g} W {counted}"
    if not energy.settled:
        yield f"not settled, windows drift by {energy.drift:.1%}"
