"""Graph rewrites. One pass per file, named after what it does: verb, then object."""

from gcompile.passes.base import (
    Arrays,
    NodePass,
    Numerics,
    Pass,
    PassContext,
    PassRecord,
    Pipeline,
    Runner,
    Skip,
)
from gcompile.passes.registry import (
    describe_passes,
    exact_pipeline,
    format_pipeline,
    known_passes,
    load_plugin,
    parse_pipeline,
)

__all__ = [
    "Arrays",
    "NodePass",
    "Numerics",
    "Pass",
    "PassContext",
    "PassRecord",
    "Pipeline",
    "Runner",
    "Skip",
    "describe_passes",
    "exact_pipeline",
    "format_pipeline",
    "known_passes",
    "load_plugin",
    "parse_pipeline",
]
