"""From the jobs of one model to its artefact: a variant for each target, verified and reported."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gcompile import ir
from gcompile.backends.tvm.artifact import Artifact
from gcompile.backends.write_artifact import STEM, record_outcome, write_artifact
from gcompile.compiler.job import Job, Recipe
from gcompile.compiler.variant import build_variant, verify_variant
from gcompile.report import Report, artifact_folder, joint_report, write_report


@dataclass(frozen=True)
class Compiled:
    """What a compilation gives back: the final graph, the code that runs it, and the report.

    Attributes:
        is_restored: Whether an equal build had left it in the cache.
        recipes: What was decided for each variant, by its name.
    """

    model: ir.Model
    artifact: Artifact
    report: Report
    is_restored: bool = False
    recipes: Mapping[str, Recipe] = field(default_factory=dict, repr=False)


def temporary_folder() -> Path:
    """A folder that does not exist yet: nothing is left behind where a compilation fails."""
    return Path(tempfile.gettempdir()) / f"gcompile-{secrets.token_hex(8)}"


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
