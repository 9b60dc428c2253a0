"""`gcompile bench`: how fast an artefact runs here, and what an inference costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.cli.options import FolderArgument, Format, FormatOption, ThreadsOption
from gcompile.cli.output import show, show_json
from gcompile.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from gcompile.report import BenchEnergy, BenchResult

MIN_REPEATS = 30
MAX_REPEATS = 20_000


def bench(
    folder: FolderArgument,
    input_: Annotated[
        Path | None,
        typer.Option("--input", "-i", help=".npz with one inference; default: random."),
    ] = None,
    warmup: Annotated[int, typer.Option("--warmup", help="Runs that are not timed.")] = 10,
    repeats: Annotated[
        int | None, typer.Option("--repeats", help="Runs that are timed; default: by --seconds.")
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long to repeat, at least 30 runs.")
    ] = 2.0,
    seed: Annotated[int, typer.Option("--seed", help="Of the random inputs.")] = 0,
    threads: ThreadsOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Time an artefact: latency, CPU time, throughput, and joules with where they come from."""
    if warmup < 0 or (repeats is not None and repeats < 1) or not seconds > 0:
        raise UsageError("--warmup must be 0 or more, --repeats 1 or more, --seconds above 0.")
    import numpy as np

    from gcompile import runtime
    from gcompile.cli.npz import read_arrays
    from gcompile.cli.random_inputs import random_inputs
    from gcompile.report import BenchResult, Latency, gcompile_version

    arrays = None if input_ is None else read_arrays(input_)
    runner = runtime.load(folder, threads=threads)
    call = runner.prepare(random_inputs(runner.inputs, seed) if arrays is None else arrays)
    times, cpu_s = _time(call, warmup, repeats, seconds)
    result = BenchResult(
        gcompile_version=gcompile_version(),
        model=runner.manifest.model_name,
        target=runner.manifest.target,
        threads=threads or runner.manifest.threads,
        warmup=warmup,
        repeats=len(times),
        latency_s=Latency(
            median=float(np.median(times)), p95=float(np.percentile(times, 95)), min=min(times)
        ),
        cpu_time_s=cpu_s / len(times),
        throughput_per_s=len(times) / sum(times),
        energy=_energy(folder),
    )
    if format_ is Format.JSON:
        show_json(result.model_dump_json(indent=2))
    else:
        show(_table(result))


def _time(
    call: Callable[[], None], warmup: int, repeats: int | None, seconds: float
) -> tuple[list[float], float]:
    """Seconds of each run, and CPU seconds of all of them together."""
    for _ in range(warmup):
        call()
    times: list[float] = []
    cpu_start, start = time.process_time(), time.perf_counter()
    now = start
    while _more(len(times), now - start, repeats, seconds):
        before = time.perf_counter()
        call()
        now = time.perf_counter()
        times.append(now - before)
    return times, time.process_time() - cpu_start


def _more(done: int, elapsed_s: float, repeats: int | None, seconds: float) -> bool:
    if repeats is not None:
        return done < repeats
    return done < MIN_REPEATS or (elapsed_s < seconds and done < MAX_REPEATS)


def _energy(folder: Path) -> BenchEnergy:
    """Joules of one inference; predicted, and said to be."""
    from gcompile.report import BenchEnergy, read_report
    from gcompile.report.layout import threads_text
    from gcompile.report.quantity import format_energy

    try:
        report = read_report(folder)
    except ArtifactError as error:
        return BenchEnergy(
            joules_per_inference=None, provenance="unavailable", method=f"no estimate: {error}"
        )
    energy = report.energy.after
    return BenchEnergy(
        joules_per_inference=energy.energy_j,
        provenance="estimated",
        method=f"{report.estimated_by} model when it was built, {energy.boundary} boundary, "
        f"{threads_text(report.threads)}, between {format_energy(energy.low_j)} and "
        f"{format_energy(energy.high_j)}",
    )


def _table(result: BenchResult) -> Table:
    from rich.table import Table
    from rich.text import Text

    from gcompile.report.layout import threads_text
    from gcompile.report.quantity import format_energy, format_time, printable

    latency, energy = result.latency_s, result.energy
    joules = energy.joules_per_inference
    rows = {
        "model": f"{result.model} for {result.target}, {threads_text(result.threads)}",
        "latency": f"median {format_time(latency.median)}, p95 {format_time(latency.p95)}, "
        f"min {format_time(latency.min)} ({result.repeats} runs after {result.warmup})",
        "CPU time": f"{format_time(result.cpu_time_s)} per inference",
        "throughput": f"{result.throughput_per_s:,.0f} inferences per second",
        "energy": f"{'unknown' if joules is None else format_energy(joules)} per inference, "
        f"{energy.provenance} ({energy.method})",
    }
    table = Table.grid(padding=(0, 2))
    for label, value in rows.items():
        table.add_row(Text(label, "bold"), Text(printable(value)))
    return table
