"""The whole story of a compilation, from top to bottom."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gcompile import ir
from gcompile.backends.tvm.artifact import Artifact
from gcompile.backends.tvm.build import record_outcome, write_artifact
from gcompile.compiler.choose import choose
from gcompile.compiler.estimate import estimate
from gcompile.compiler.job import Job, Progress, prepare
from gcompile.compiler.native import Measurer
from gcompile.compiler.outcome import make_outcome
from gcompile.compiler.stages import apply_exact_passes
from gcompile.energy.carbon import Accounting, Intensity
from gcompile.passes import Arrays
from gcompile.report import Budget, Report, artifact_folder, check_output, write_report
from gcompile.search import Metric
from gcompile.targets import Target

__all__ = ["Compiled", "compile", "estimate"]


@dataclass(frozen=True)
class Compiled:
    """What a compilation gives back: the final graph, the code that runs it, and the report."""

    model: ir.Model
    artifact: Artifact
    report: Report


def compile(
    model: ir.Model | str | Path,
    target: Target | str = "cpu",
    *,
    budget: Budget | str | None = None,
    max_drop: float | str = 0.01,
    metric: str | Metric = "top1",
    calib: Arrays | str | Path | None = None,
    evaluate: Arrays | str | Path | None = None,
    precision: ir.Precision | str | None = None,
    passes: str | None = None,
    shapes: ir.Shapes | None = None,
    threads: int = 1,
    seed: int = 0,
    output: str | Path | None = None,
    plugins: Sequence[str] = (),
    progress: Progress | None = None,
    carbon: Accounting | Intensity | str | float | None = None,
    cache: bool | str | Path = True,
    emulator: str | None = None,
    require_verified: bool = False,
) -> Compiled:
    """Optimise a model for a target under an energy budget, build it, verify it, and report.

    Args:
        model: An ONNX file, or a model in memory, which is not changed.
        target: The name of a device, a TOML file that describes one, or a `Target`.
        budget: `50mJ`, `0.2Wh/1000`, `5gCO2e/1000`, or `-40%` of the model compiled exactly.
        max_drop: Loss of the metric that is accepted where `evaluate` is given: 0.01 or `1%`.
        metric: `top1`, `module:function`, or a function of (outputs by name, labels).
        calib: Rows for every input: what ranges and sensitivities are measured on. Without them
            only float precisions are considered.
        evaluate: Rows with `labels`: what accuracy is measured on.
        precision: One precision wherever it is possible, in place of a search.
        passes: A pipeline that replaces the exact passes, such as `fold-batch-norm`.
        shapes: A static shape for each input with free dimensions. A free leading dimension left
            out is the batch and is bound to one sample.
        threads: Most threads a kernel is divided among.
        seed: Of every random choice.
        output: The folder to write, whole or not at all; by default a temporary one.
        plugins: Modules that bring passes.
        progress: Told what is being done and the fraction done.
        carbon: The grid to count emissions on: a country such as `DE`, gCO2e per kWh, or an
            `Accounting`. A budget such as `5gCO2e/1000` needs it.
        cache: Whether compiled kernels are kept for later builds, or the folder to keep them in;
            by default below $XDG_CACHE_HOME or ~/.cache.
        emulator: A command that starts Python on an emulated machine, for code that this machine
            cannot run: `qemu-aarch64 -L ROOT ROOT/usr/bin/python3`. Without it, the artefact of
            such a target is written all the same, and the report says that its code was not run.
        require_verified: Refuse to build code that cannot be run to verify it.

    Raises:
        UsageError: An option, a shape or a data file cannot be used.
        UnsupportedOperatorsError: Nothing can compile some operators; all are listed.
        VerificationError: The compiled code disagrees with the reference, or cannot be run and
            `require_verified` asks for it.
        GcompileError: Anything else that went wrong, with the remedy.
    """
    folder = Path(output) if output else _temporary_folder()
    check_output(folder)
    job = prepare(
        model, target, budget=budget, max_drop=max_drop, metric=metric, calib=calib,
        evaluate=evaluate, precision=precision, passes=passes, shapes=shapes, threads=threads,
        seed=seed, plugins=plugins, progress=progress, carbon=carbon, cache=cache,
        emulator=emulator, require_verified=require_verified,
    )  # fmt: skip
    return _compile(job, folder)


def _temporary_folder() -> Path:
    """A folder that does not exist yet: nothing is left behind where a compilation fails."""
    return Path(tempfile.gettempdir()) / f"gcompile-{secrets.token_hex(8)}"


def _compile(job: Job, output: Path) -> Compiled:
    measurer = Measurer(job, reference=job.model.clone())
    job.progress("exact passes", 0.0)
    exact = apply_exact_passes(job)
    limit_j = job.budget.limit_j(exact.estimate.total.energy_j) if job.budget else None
    decision = choose(job, exact, measurer, limit_j)

    job.progress("generating code", 0.0)
    code = measurer.code(decision.stage.model)
    with artifact_folder(output) as folder:
        manifest = write_artifact(code, folder, model_name=job.model_name, seed=job.context.seed)
        job.progress("verifying", 0.5)
        execution = job.executor.open(folder, decision.stage.model)
        verify = measurer.verify(execution, decision.stage)
        report = make_outcome(job, exact, decision, code, measurer, execution, verify, limit_j)
        record_outcome(
            folder,
            manifest,
            report.status,
            verify.model_dump(include={"code_ran", "max_abs_error", "cosine"}),
        )
        write_report(report, folder)
    return Compiled(decision.stage.model, Artifact(output), report)
