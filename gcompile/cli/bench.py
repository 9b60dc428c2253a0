"""`gcompile bench`: how fast an artefact runs here, and what an inference costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gcompile.cli.bench_table import bench_table
from gcompile.cli.carbon import (
    CarbonEmbodiedOption,
    CarbonInferencesOption,
    CarbonIntensityOption,
    CarbonKeyOption,
    CarbonProviderOption,
    CarbonZoneOption,
    read_accounting,
)
from gcompile.cli.entries import EntryOption
from gcompile.cli.metering import (
    IdleOption,
    MeasureOption,
    MeterOption,
    WindowOption,
    announce,
    parse_watts,
    read_plan,
    ready_meter,
    refuse_without_measure,
)
from gcompile.cli.options import (
    DeviceOption,
    FolderArgument,
    Format,
    FormatOption,
    ThreadsOption,
    VariantOption,
)
from gcompile.cli.output import say, show, show_json
from gcompile.errors import ArtifactError, UsageError

if TYPE_CHECKING:
    from gcompile.energy import Estimate
    from gcompile.energy.carbon import Accounting
    from gcompile.energy.meters import Measurement
    from gcompile.report import BenchEnergy, CarbonSection, EnergySection, Report
    from gcompile.runtime import Runner

MIN_REPEATS = 30
MAX_REPEATS = 20_000
AT_ONCE_S = 0.05


def bench(
    folder: FolderArgument,
    input_: Annotated[
        Path | None,
        typer.Option("--input", "-i", help=".npz with one inference; default: random."),
    ] = None,
    warmup: Annotated[int, typer.Option("--warmup", help="Runs that are not timed.")] = 10,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            help="Runs that are timed, by default as --seconds allows; with --measure windows "
            "that are measured, by default 5.",
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", help="How long to repeat, at least 30 runs.")
    ] = 2.0,
    measure: MeasureOption = False,
    meter: MeterOption = None,
    window: WindowOption = None,
    idle: IdleOption = None,
    carbon_zone: CarbonZoneOption = None,
    carbon_intensity: CarbonIntensityOption = None,
    carbon_provider: CarbonProviderOption = None,
    carbon_key: CarbonKeyOption = None,
    carbon_inferences: CarbonInferencesOption = None,
    carbon_embodied: CarbonEmbodiedOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the random inputs.")] = 0,
    entry: EntryOption = None,
    variant: VariantOption = None,
    threads: ThreadsOption = None,
    device: DeviceOption = None,
    apply_power_cap: Annotated[
        str | None,
        typer.Option(
            "--apply-power-cap",
            metavar="WATTS",
            help="Hold this power limit of an NVIDIA GPU meanwhile, as root; then the old one.",
        ),
    ] = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Time an artefact: latency, CPU time, throughput, and joules with where they come from.

    Joules are estimated unless --measure is given; then they are measured, or there are none.
    """
    if warmup < 0 or (repeats is not None and repeats < 1) or not seconds > 0:
        raise UsageError("--warmup must be 0 or more, --repeats 1 or more, --seconds above 0.")
    if not measure:
        refuse_without_measure(meter, window, idle)
    cap_w = None if apply_power_cap is None else parse_watts(apply_power_cap)
    plan = read_plan(meter, window, idle, repeats) if measure else None
    accounting = read_accounting(
        carbon_zone,
        carbon_intensity,
        carbon_provider,
        carbon_key,
        carbon_inferences,
        carbon_embodied,
    )
    import numpy as np

    from gcompile import runtime
    from gcompile.cli.random_inputs import random_inputs
    from gcompile.energy import meters
    from gcompile.npz import read_arrays
    from gcompile.report import (
        REPORT_NAME,
        BenchResult,
        Latency,
        gcompile_version,
        measured_energy,
    )

    arrays = None if input_ is None else read_arrays(input_)
    runner = runtime.load(folder, threads=threads, variant=variant, entry=entry, device=device)
    reader = ready_meter(plan, meter, runner.variant.target, device or 0) if plan else None
    inputs = random_inputs(runner.inputs, seed) if arrays is None else arrays
    measurement = None
    with _power_limit(runner, cap_w, device or 0):
        times, cpu_s = _time(runner.prepare(inputs), warmup, None if measure else repeats, seconds)
        if plan and reader:
            announce(reader, plan, say)
            many, count = runner.prepare_many(inputs), _at_once(runner, times)
            measurement = meters.measure(lambda: many(count), reader, plan, inferences=count)
    predicted, estimate = _prediction(
        folder if entry is None else folder / f"{entry}.{REPORT_NAME}", runner.variant.name
    )
    result = BenchResult(
        gcompile_version=gcompile_version(),
        model=runner.entry_point.model_name,
        target=runner.variant.target,
        threads=threads or runner.manifest.threads,
        warmup=warmup,
        repeats=len(times),
        latency_s=Latency(
            median=float(np.median(times)), p95=float(np.percentile(times, 95)), min=min(times)
        ),
        cpu_time_s=cpu_s / len(times),
        throughput_per_s=len(times) / sum(times),
        device_bytes=runner.device_bytes,
        power_limit_w=cap_w,
        energy=measured_energy(measurement) if measurement else predicted,
        predicted=predicted if measurement else None,
        carbon=_carbon(measurement or estimate, accounting),
    )
    if format_ is Format.JSON:
        show_json(result.model_dump_json(indent=2))
    else:
        show(bench_table(result))


def _power_limit(runner: Runner, watts: float | None, device: int) -> AbstractContextManager[None]:
    if watts is None:
        return nullcontext()
    from gcompile.runtime.cuda.power_limit import power_limit
    from gcompile.runtime.variants import CUDA

    if runner.variant.platform != CUDA:
        raise UsageError("--apply-power-cap is for NVIDIA GPUs, and the CPU runs this artefact.")
    return power_limit(device, watts)


def _at_once(runner: Runner, times: list[float]) -> int:
    """How many inferences are queued: a GPU shall not wait for the next one."""
    from gcompile.runtime.variants import CUDA

    return max(1, int(AT_ONCE_S / min(times))) if runner.variant.platform == CUDA else 1


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


def _prediction(report_at: Path, variant: str) -> tuple[BenchEnergy, Estimate | None]:
    """What the build predicted for one inference, and said to be that."""
    from gcompile.report import BenchEnergy, read_report
    from gcompile.report.layout import threads_text
    from gcompile.report.quantity import format_energy

    try:
        report = read_report(report_at)
    except ArtifactError as error:
        why = f"no estimate: {error}"
        return (
            BenchEnergy(joules_per_inference=None, provenance="unavailable", method=why),
            None,
        )
    energy = _energy_of(report, variant)
    predicted = BenchEnergy(
        joules_per_inference=energy.energy_j,
        provenance="estimated",
        method=f"{report.estimated_by} model when it was built, {energy.boundary} boundary, "
        f"{threads_text(report.threads)}, between {format_energy(energy.low_j)} and "
        f"{format_energy(energy.high_j)}",
        boundary=energy.boundary,
    )
    return predicted, _estimate(report, energy)


def _energy_of(report: Report, variant: str) -> EnergySection:
    """What was predicted for a variant of the artefact, or for its only one."""
    found = {section.name: section.energy for section in report.variants}
    return found.get(variant, report.energy.after)


def _estimate(report: Report, energy: EnergySection) -> Estimate:
    """The estimate that a report tells of."""
    from gcompile.energy import Cost, Estimate

    cost = Cost(
        energy.compute_j, energy.movement_j, energy.launch_j, energy.static_j, energy.time_s
    )
    error = energy.high_j / energy.energy_j - 1 if energy.energy_j else 0.0
    return Estimate(
        report.estimated_by, energy.boundary, energy.idle_policy, cost, relative_error=error
    )


def _carbon(
    energy: Estimate | Measurement | None, accounting: Accounting | None
) -> CarbonSection | None:
    if energy is None or accounting is None:
        return None
    from gcompile.energy.carbon import assess
    from gcompile.report import carbon_section

    return carbon_section(assess(energy, accounting))
