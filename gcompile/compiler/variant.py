"""The model compiled for one target: the whole artefact, or one of several variants in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from gcompile.backends.code import Code
from gcompile.compiler.choose import Decision, choose
from gcompile.compiler.job import Job, Progress
from gcompile.compiler.native import Measurer
from gcompile.compiler.one_thread import blas_on_one_thread
from gcompile.compiler.outcome import make_outcome
from gcompile.compiler.prepare_integers import prepare_integers
from gcompile.compiler.stages import Stage, apply_exact_passes
from gcompile.errors import UsageError
from gcompile.report import Report, target_names
from gcompile.targets import Target


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


def named_targets(
    target: Target | str | Sequence[Target | str], progress: Progress | None
) -> Iterator[tuple[str, Target | str, Progress | None]]:
    """The name of each variant, its target, and who is told of progress with it.

    Raises:
        UsageError: There is no target, or two would have the same name.
    """
    if isinstance(target, str):
        targets: Sequence[Target | str] = target_names(target)
    else:
        targets = [target] if isinstance(target, Target) else target
    if not all(isinstance(t, (str, Target)) for t in targets):
        raise UsageError(
            "The second argument is the target, by name or as a `Target`. Give the inputs of a "
            "PyTorch module by name: example_inputs=(tensor,)."
        )
    names = [
        t.name if isinstance(t, Target) else Path(t).name.removesuffix(".toml") for t in targets
    ]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice or not names:
        problem = f"Target {twice[0]!r} is named twice" if twice else "No target is named"
        raise UsageError(f"{problem}. Name every target of an artefact once.")
    for name, device in zip(names, targets, strict=True):
        yield name, device, _prefixed(name, progress) if len(names) > 1 else progress


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


def _prefixed(name: str, progress: Progress | None) -> Progress | None:
    if progress is None:
        return None
    tell = progress
    return lambda what, fraction: tell(f"{name}: {what}", fraction)
