"""Say what came of a compilation."""

from __future__ import annotations

from collections import Counter

from gcompile import ir
from gcompile.backends.code import Code
from gcompile.compiler.choose import Decision
from gcompile.compiler.execution import Execution
from gcompile.compiler.job import Job
from gcompile.compiler.native import Measurer
from gcompile.compiler.stages import Stage
from gcompile.energy.carbon import BuildEnergy, build_energy, cpu_seconds
from gcompile.energy.power_advice import power_advice
from gcompile.passes.precision import product_regions, why_not
from gcompile.report import Accuracy, Report, Verify, make_report
from gcompile.search import Status
from gcompile.targets import detect_host


def make_outcome(
    job: Job,
    exact: Stage,
    decision: Decision,
    code: Code,
    measurer: Measurer,
    execution: Execution,
    verify: Verify,
    limit_j: float | None,
) -> Report:
    """Measure what the report states about the final code, and write it down."""
    accuracy = measurer.compare_accuracy(execution, decision.reference_accuracy)
    status, message = _status(decision, accuracy)
    return make_report(
        model=decision.stage.model,
        model_name=job.model_name,
        target=job.context.target,
        before=exact.before,
        exact=exact.estimate,
        after=decision.stage.estimate,
        passes=decision.stage.records,
        verify=verify,
        status=status.value,
        message=message,
        budget=job.budget,
        limit_j=limit_j,
        accuracy=accuracy,
        fidelity=measurer.fidelity(execution),
        errors=decision.errors,
        fallbacks=code.fallbacks,
        peak_memory_bytes=code.peak_memory_bytes,
        threads=job.context.threads,
        seed=job.context.seed,
        carbon=job.carbon,
        build=_build_energy(job),
        tokens=job.tokens,
        power=power_advice(decision.stage.model, job.context.target, job.context.energy),
        notes=(*job.notes, *code.remarks, *_advice(job, decision)),
    )


def _build_energy(job: Job) -> BuildEnergy | None:
    """What compiling took so far, on the machine that compiles."""
    if job.carbon is None:
        return None
    return build_energy(cpu_seconds() - job.started_cpu_s, detect_host())


def _status(decision: Decision, accuracy: Accuracy | None) -> tuple[Status, str]:
    """A build that no search chose may still have lost too much accuracy."""
    if decision.status is not Status.OK or accuracy is None:
        return decision.status, decision.message
    lost = accuracy.reference - accuracy.compiled
    if lost <= accuracy.max_drop + 1e-9:
        return decision.status, decision.message
    return Status.ACCURACY_NOT_MET, (
        f"The accuracy is not met: {accuracy.metric} falls from {accuracy.reference:.4f} to "
        f"{accuracy.compiled:.4f}, and {accuracy.max_drop:g} may be lost. "
        "Give a budget instead of a precision, so that sensitive regions are kept higher."
    )


def _kept(model: ir.Model, precision: ir.Precision) -> list[str]:
    """Why products keep fp32 where another precision was asked for, a sentence for each reason."""
    products = product_regions(model)
    kept = [region for region in products if region.precision is ir.Precision.FP32]
    reasons = Counter(reason for region in kept if (reason := why_not(region, precision)))
    asked = f"Where {precision} was asked for, fp32 stays in"
    return [
        f"{asked} {count} of {len(products)} products: {reason}."
        for reason, count in reasons.items()
    ]


def _advice(job: Job, decision: Decision) -> list[str]:
    notes = []
    is_searched = job.budget is not None and job.precision is None
    if is_searched and job.calibration is None:
        notes.append("No calibration rows were given, so only float precisions were considered.")
    if is_searched and job.evaluation is None:
        notes.append(
            "No evaluation rows were given: accuracy is unknown, and the choice follows the "
            "fidelity of the outputs."
        )
    exact_j, after_j = (
        decision.stage.records[0].before.total.energy_j,
        decision.stage.estimate.total.energy_j,
    )
    if job.precision is not None:
        notes += _kept(decision.stage.model, job.precision)
    if job.precision is not None and after_j > exact_j:
        notes.append(
            f"Precision {job.precision} costs more than the model as given on this target."
        )
    return notes
