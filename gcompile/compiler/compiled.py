"""What a compilation gives back."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from gcompile import ir
from gcompile.backends.tvm.artifact import Artifact
from gcompile.compiler.job import Recipe
from gcompile.report import Report


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
