"""The model compiled for one target: the whole artefact, or one of several variants in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gcompile.backends.code import Code
from gcompile.compiler.choose import Decision, choose
from gcompile.compiler.job import Job
from gcompile.compiler.native import Measurer
from gcompile.compiler.one_thread import blas_on_one_thread
from gcompile.compiler.outcome import make_outcome
from gcompile.compiler.prepare_integers import prepare_integers
from gcompile.compiler.stages import Stage, apply_exact_passes
from gcompile.report import Report


@dataclass(frozen=True)
class BuiltVariant:
    """Code for one target, with everything that a report on it tells.

    Attributes:
        exact: The model after the exact passes.
        limit_j: What the budget comes to, in joules per inference; None without a budget.
    """

    job: Job
    measurer: Measurer
    exact: Stage
    limit_j: float | None
    decision: Decision
    code: Code


@blas_on_one_thread()
def build_variant(job: Job) -> BuiltVariant:
    """Optimise and compile the model of a job."""
    measurer = Measurer(job, reference=job.model.clone())
    job.progress("exact passes", 0.0)
    exact = apply_exact_passes(job)
    limit_j = job.budget.limit_j(exact.estimate.total.energy_j) if job.budget else None
    prepared = prepare_integers(job, exact)
    decision = choose(job, exact, prepared, measurer, limit_j)
    job.progress("generating code", 0.0)
    code = measurer.code(decision.stage.model)
    return BuiltVariant(job, measurer, exact, limit_j, decision, code)


def verify_variant(name: str, built: BuiltVariant, folder: Path) -> Report:
    """Verify a variant of the artefact in a folder, and report on it.

    Raises:
        VerificationError: The code disagrees with the reference.
    """
    built.job.progress("verifying", 0.5)
    stage = built.decision.stage
    execution = built.job.executor.open(folder, name, stage.model)
    return make_outcome(
        built.job,
        built.exact,
        built.decision,
        built.code,
        built.measurer,
        execution,
        built.measurer.verify(built.job.executor.checked(execution, built.code), stage),
        built.limit_j,
    )
