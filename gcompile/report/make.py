"""Put a report together from what a compilation left behind."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from gcompile import ir
from gcompile.energy import Cost, Estimate
from gcompile.energy.carbon import Accounting, BuildEnergy, assess
from gcompile.energy.power_advice import PowerAdvice
from gcompile.passes import PassRecord
from gcompile.report.budget import Budget
from gcompile.report.carbon import CarbonSection, carbon_section
from gcompile.report.power import power_note, power_section
from gcompile.report.report import (
    Accuracy,
    BudgetSection,
    Energies,
    EnergySection,
    EstimateLayer,
    EstimateReport,
    Fidelity,
    LayerSection,
    PassSection,
    Report,
    Status,
    Verify,
)
from gcompile.targets import Target

_TOKENS = "input_ids"
_LIBRARIES = ("apache-tvm", "apache-tvm-ffi", "numpy", "onnx", "onnx-ir", "onnxruntime", "scipy")


def make_report(
    *,
    model: ir.Model,
    model_name: str,
    target: Target,
    before: Estimate,
    exact: Estimate,
    after: Estimate,
    passes: Iterable[PassRecord],
    verify: Verify,
    status: Status = "ok",
    message: str = "",
    budget: Budget | None = None,
    limit_j: float | None = None,
    accuracy: Accuracy | None = None,
    fidelity: Fidelity | None = None,
    errors: Mapping[str, float] | None = None,
    fallbacks: Mapping[str, str] | None = None,
    threads: int = 1,
    seed: int = 0,
    peak_memory_bytes: int | None = None,
    carbon: Accounting | None = None,
    build: BuildEnergy | None = None,
    tokens: int | None = None,
    power: PowerAdvice | None = None,
    notes: Sequence[str] = (),
) -> Report:
    """Report on a compilation.

    Args:
        model: The final, fused model: its regions become the layers.
        model_name: What the user calls it, usually the name of its file.
        target: The device it was compiled for.
        before: The model as given, unfused.
        exact: After the exact passes: what a relative budget counts from.
        after: The model as compiled; its regions are those of `model`.
        passes: Records in the order they ran; pipelines are unfolded into single passes.
        verify: How the compiled code compares with the reference runtime.
        status: `ok`, or which constraint is missed.
        message: One sentence on the outcome; by default written from status and budget.
        budget: The energy budget; None when there was none.
        limit_j: Joules per inference the budget comes to; by default `budget.limit_j(exact)`.
        accuracy: The task metric before and after; None without evaluation rows.
        fidelity: How close the outputs stay on calibration rows; None when not measured.
        errors: Error measured for each region name; scaled to shares of their sum.
        fallbacks: Regions that generic code runs, with the reason.
        threads: Threads the code was compiled for.
        seed: The seed of every random choice.
        peak_memory_bytes: Of the largest set of live tensors, if known.
        carbon: How emissions are counted; None leaves them out.
        build: What the compilation itself took, for its emissions.
        tokens: Tokens that one inference takes in; by default those of the input `input_ids`.
        power: What lower power limits and clocks should cost, for GPUs.
        notes: Plain sentences, such as `Batch dimension N is bound to 1.`
    """
    limit_j = _limit(budget, limit_j, exact)
    tokens = token_count(model) if tokens is None else tokens
    section = _budget_section(budget, limit_j, after)
    return Report(
        gcompile_version=gcompile_version(),
        model=model_name,
        target=target.name,
        threads=threads,
        seed=seed,
        versions=library_versions(),
        estimated_by=after.by,
        status=status,
        message=message or _default_message(status, section),
        budget=section,
        energy=Energies(
            before=energy_section(before), exact=energy_section(exact), after=energy_section(after)
        ),
        accuracy=accuracy,
        fidelity=fidelity,
        passes=[_pass_section(leaf) for record in passes for leaf in record.leaves],
        layers=_layers(model, after, errors or {}),
        verify=verify,
        fallbacks=dict(fallbacks or {}),
        peak_memory_bytes=peak_memory_bytes,
        carbon=emissions(after, carbon, build),
        tokens=tokens,
        energy_per_token_j=after.total.energy_j / tokens if tokens else None,
        power=None if power is None else power_section(power),
        notes=[*notes, *([] if power is None else [power_note(power)])],
    )


def make_estimate_report(
    estimate: Estimate,
    *,
    model_name: str,
    target: str,
    batch: int = 1,
    carbon: Accounting | None = None,
) -> EstimateReport:
    """Report on an estimate of a model that was not compiled."""
    unit = "inference" if batch == 1 else f"batch of {batch}"
    return EstimateReport(
        gcompile_version=gcompile_version(),
        model=model_name,
        target=target,
        estimated_by=estimate.by,
        batch=batch,
        energy=energy_section(estimate),
        carbon=emissions(estimate, carbon, unit=unit),
        layers=[
            _estimate_layer(name, cost, estimate.places.get(name))
            for name, cost in estimate.per_region.items()
        ],
    )


def energy_section(estimate: Estimate) -> EnergySection:
    """An estimate, with its band, boundary and idle policy, as data."""
    cost = estimate.total
    return EnergySection(
        energy_j=cost.energy_j,
        low_j=estimate.low_j,
        high_j=estimate.high_j,
        time_s=cost.time_s,
        boundary=estimate.boundary,
        idle_policy=estimate.idle_policy,
        compute_j=cost.compute_j,
        movement_j=dict(cost.movement_j),
        launch_j=cost.launch_j,
        static_j=cost.static_j,
    )


def emissions(
    estimate: Estimate,
    accounting: Accounting | None,
    build: BuildEnergy | None = None,
    unit: str = "inference",
) -> CarbonSection | None:
    """What an estimate emits, as data; None where carbon is not counted."""
    if accounting is None:
        return None
    return carbon_section(assess(estimate, accounting, build), unit)


def token_count(model: ir.Model) -> int | None:
    """Tokens that one inference takes in, where the model has the usual input for them."""
    for value in model.graph.inputs:
        if value.name == _TOKENS and value.dtype in (ir.DataType.INT64, ir.DataType.INT32):
            return math.prod(ir.static_shape(value)) or None
    return None


def gcompile_version() -> str:
    """The version of gcompile that is installed."""
    return _version("gcompile") or "unknown"


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries a compilation depends on, installed ones only."""
    found = {name: _version(name) for name in _LIBRARIES}
    return {"python": platform.python_version()} | {n: v for n, v in found.items() if v}


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _limit(budget: Budget | None, limit_j: float | None, exact: Estimate) -> float | None:
    if budget is None or limit_j is not None:
        return limit_j
    return budget.limit_j(exact.total.energy_j)


def _budget_section(
    budget: Budget | None, limit_j: float | None, after: Estimate
) -> BudgetSection:
    if budget is None or limit_j is None:
        return BudgetSection()
    met = after.total.energy_j <= limit_j
    return BudgetSection(requested=budget.requested, energy_j=limit_j, met=met)


def _default_message(status: Status, budget: BudgetSection) -> str:
    if status == "budget_not_met":
        return "The energy budget is not met."
    if status == "accuracy_not_met":
        return "The accuracy constraint is not met."
    return "Compiled." if budget.met is None else "The energy budget is met."


def _pass_section(record: PassRecord) -> PassSection:
    return PassSection(
        name=record.name,
        changed=record.changed,
        seconds=record.seconds,
        before_j=record.before.total.energy_j,
        after_j=record.after.total.energy_j,
        kept=record.kept,
        skipped=dict(record.skipped),
    )


def _layers(model: ir.Model, after: Estimate, errors: Mapping[str, float]) -> list[LayerSection]:
    total_error = sum(errors.values())
    layers = []
    for graph in ir.all_graphs(model):
        for region in ir.regions(graph):
            cost = after.per_region.get(region.name)
            if cost is None:  # the branch of an If that is not the dearest
                continue
            error, place = errors.get(region.name), region.place
            layers.append(
                LayerSection(
                    name=region.name,
                    op=region.op,
                    precision=region.precision.value,
                    energy_j=cost.energy_j,
                    time_s=cost.time_s,
                    error=error / total_error if error is not None and total_error else error,
                    module=place.module if place else None,
                    source=place.source if place else None,
                )
            )
    return layers


def _estimate_layer(name: str, cost: Cost, place: ir.Place | None) -> EstimateLayer:
    return EstimateLayer(
        name=name,
        energy_j=cost.energy_j,
        time_s=cost.time_s,
        compute_j=cost.compute_j,
        movement_j=dict(cost.movement_j),
        launch_j=cost.launch_j,
        static_j=cost.static_j,
        module=place.module if place else None,
        source=place.source if place else None,
    )
