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
]
