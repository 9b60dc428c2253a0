"""Compile one model for several sizes of its free dimensions, into one artefact."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Unpack

import numpy as np

from gcompile import ir
from gcompile.backends.tvm.artifact import Artifact
from gcompile.backends.tvm.join import ArtifactJoin
from gcompile.compiler.compiled import Compiled, temporary_folder
from gcompile.compiler.entries import ENTRY_LIMITS, Options
from gcompile.compiler.job import Job, Progress, Recipe, prepare
from gcompile.compiler.ladder import Plan, plan_ladder
from gcompile.compiler.ladder_check import check_ladder
from gcompile.compiler.named_targets import named_targets, prefixed
from gcompile.compiler.whole import compile_jobs
from gcompile.errors import UsageError
from gcompile.passes.labels.fit_bias import FitBias
from gcompile.passes.labels.fit_classifier import FitClassifier
from gcompile.passes.precision import Preset
from gcompile.report import (
    Report,
    artifact_folder,
    check_output,
    dynamic_section,
    entries_report,
    move_reports,
    write_report,
)
from gcompile.runtime.ladder import Kind, Ladder
from gcompile.search import Dataset
from gcompile.targets import Target

Dynamic = Mapping[str, str | range | Sequence[int]]
"""The sizes of each free dimension, by its name: `1..64`, `16,32`, a range or a list."""


def compile_dynamic(
    graph: ir.Model,
    name: str,
    target: Target | str | Sequence[Target | str],
    dynamic: Dynamic,
    *,
    shapes: ir.Shapes | None = None,
    output: str | Path | None = None,
    progress: Progress | None = None,
    **options: Unpack[Options],
) -> Compiled:
    """Compile a model for every combination of the sizes asked for.

    Precisions are decided once, for one sample at the largest of every other dimension, and hold
    for all sizes. A budget is one of that size, and so are calibration and evaluation rows.

    Args:
        graph: A model as it was read, with its free dimensions.
        name: What the user calls it.
        target: As for `gcompile.compile`.
        dynamic: The sizes of each dimension that stays free.
        shapes: A static shape for each input with other free dimensions.
        output: The folder to write, whole or not at all; by default a temporary one.
        progress: Told what is being done and the fraction done.
        **options: Those of `gcompile.compile`.

    Raises:
        UsageError: A dimension cannot stay free, or an option does not go with one that does.
        GcompileError: As for `gcompile.compile`.
    """
    folder = Path(output) if output else temporary_folder()
    check_output(folder)
    plan = plan_ladder(graph, name, shapes, dynamic)
    _refuse_what_is_of_one_size(options)
    check_ladder(plan, options.get("seed", 0))
    reports: dict[str, Report] = {}
    first: Compiled | None = None
    with artifact_folder(folder) as whole:
        join = ArtifactJoin(whole)
        for entry, sizes in plan.rungs.items():
            part = whole / f".{entry}"
            tell = prefixed(entry, progress)
            if first is None:
                jobs = deciding = _first_jobs(plan, target, tell, options)
            else:
                jobs = {
                    key: _following(plan, job, sizes, first.recipes[key], tell)
                    for key, job in deciding.items()
                }
            built = compile_jobs(jobs, part, stem=entry, with_model=first is None)
            first, reports[entry] = first or built, built.report
            join.add(entry, part)
            move_reports(part, whole, entry)
            shutil.rmtree(part)
        assert first is not None
        report = entries_report(reports)
        section = dynamic_section(plan.dimensions, plan.rungs, reports)
        report = report.model_copy(update={"dynamic": section})
        energy_j = {entry: each.energy.after.energy_j for entry, each in reports.items()}
        join.finish(report.status, Ladder(plan.dimensions, energy_j))
        write_report(report, whole)
    return Compiled(first.model, Artifact(folder), report, recipes=first.recipes)


def _first_jobs(
    plan: Plan,
    target: Target | str | Sequence[Target | str],
    progress: Progress | None,
    options: Options,
) -> dict[str, Job]:
    """What decides for all sizes, by variant."""
    sizes = next(iter(plan.rungs.values()))
    return {
        variant: replace(
            prepare(
                plan.graph,
                device,
                shapes=plan.shapes,
                sizes=sizes,
                progress=stages,
                limits=ENTRY_LIMITS,
                **options,
            ),
            model_name=plan.name,
        )
        for variant, device, stages in named_targets(target, progress)
    }


def _following(
    plan: Plan, job: Job, sizes: Mapping[str, int], recipe: Recipe, progress: Progress | None
) -> Job:
    """A job that does at another size what was decided at the first."""
    rows = _resized(plan, job.calibration, sizes)
    return replace(
        job,
        model=plan.at(sizes),
        recipe=recipe,
        context=replace(job.context, calibration=rows.inputs if rows else None, labels=None),
        calibration=rows,
        budget=None,
        evaluation=None,
        progress=progress or (lambda what, fraction: None),
    )


def _resized(plan: Plan, rows: Dataset | None, sizes: Mapping[str, int]) -> Dataset | None:
    """Calibration rows of another size: several samples at a time, and their first positions."""
    if rows is None:
        return None
    inputs, lead = dict(rows.inputs), 1
    for dimension in plan.dimensions:
        size = sizes[dimension.name]
        for name, axis in dimension.inputs:
            if dimension.kind is Kind.ROWS:
                lead = size
                count = max(size, len(inputs[name]) // size * size)
                inputs[name] = np.resize(inputs[name], (count, *inputs[name].shape[1:]))
            else:
                inputs[name] = inputs[name][(slice(None),) * axis + (slice(size),)]
    return Dataset(inputs, max(1, rows.count // lead))


def _refuse_what_is_of_one_size(options: Options) -> None:
    """Pruning and scaling are searches of their own, whose results hold for one size.

    Raises:
        UsageError: Such an option is given.
    """
    if options.get("prune"):
        raise UsageError("Pruning is for static shapes. Bind them with --shape, or do not prune.")
    for fit in (FitBias, FitClassifier):
        if fit.name in str(options.get("passes") or ""):
            raise UsageError(f"{fit.name} is for static shapes. Bind them with --shape.")
    if options.get("quantization") == Preset.BEST:
        raise UsageError(
            "--quantization best is for static shapes. Bind them with --shape, or take balanced."
        )
