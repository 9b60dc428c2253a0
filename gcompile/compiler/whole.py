"""From the jobs of one model to its artefact: a variant for each target, verified and reported."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gcompile.backends.tvm.artifact import Artifact
from gcompile.backends.write_artifact import STEM, record_outcome, write_artifact
from gcompile.compiler.compiled import Compiled
from gcompile.compiler.job import Job
from gcompile.compiler.variant import build_variant, verify_variant
from gcompile.report import artifact_folder, joint_report, write_report


def compile_jobs(
    jobs: Mapping[str, Job], output: Path, *, stem: str = STEM, with_model: bool = True
) -> Compiled:
    """Build the artefact of one model.

    Args:
        jobs: For each variant, by its name.
        output: The folder to write, whole or not at all.
        stem: What libraries and model are called there, before their suffixes.
        with_model: Whether to write the optimised model as well.
    """
    built = {name: build_variant(job) for name, job in jobs.items()}
    first = next(iter(built.values()))
    with artifact_folder(output) as folder:
        manifest = write_artifact(
            {name: variant.code for name, variant in built.items()},
            folder,
            model_name=first.job.model_name,
            seed=first.job.context.seed,
            with_model=with_model,
            stem=stem,
        )
        reports = {name: verify_variant(name, one, folder) for name, one in built.items()}
        report = joint_report(reports)
        verified = {
            name: each.verify.model_dump(include={"code_ran", "max_abs_error", "cosine"})
            for name, each in reports.items()
        }
        record_outcome(folder, manifest, report.status, verified)
        write_report(report, folder)
    recipes = {name: variant.decision.recipe for name, variant in built.items()}
    return Compiled(first.decision.stage.model, Artifact(output), report, recipes=recipes)
