"""Compile a model under an energy budget: native code, and a ledger of every joule.

The public names load on first use, so that `import gcompile` is quick and brings in none of the
libraries a compilation needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gcompile import ir, runtime
    from gcompile.compiler import compile
    from gcompile.compiler.calibrate import calibrate
    from gcompile.compiler.compiled import Compiled
    from gcompile.compiler.entries import CompiledEntries, Entry, compile_entries, decoder_entries
    from gcompile.compiler.estimate import estimate
    from gcompile.energy import Estimate
    from gcompile.errors import GcompileError
    from gcompile.ir import from_torch
    from gcompile.passes import NodePass, Numerics, Pass, PassContext, Pipeline, Skip
    from gcompile.report import Budget, Report
    from gcompile.targets import Target, load_target

__version__ = "0.1.0"

_HOMES = {
    "Budget": "gcompile.report",
    "Compiled": "gcompile.compiler.compiled",
    "CompiledEntries": "gcompile.compiler.entries",
    "Entry": "gcompile.compiler.entries",
    "Estimate": "gcompile.energy",
    "GcompileError": "gcompile.errors",
    "NodePass": "gcompile.passes",
    "Numerics": "gcompile.passes",
    "Pass": "gcompile.passes",
    "PassContext": "gcompile.passes",
    "Pipeline": "gcompile.passes",
    "Report": "gcompile.report",
    "Skip": "gcompile.passes",
    "Target": "gcompile.targets",
    "calibrate": "gcompile.compiler.calibrate",
    "compile": "gcompile.compiler",
    "compile_entries": "gcompile.compiler.entries",
    "decoder_entries": "gcompile.compiler.entries",
    "estimate": "gcompile.compiler.estimate",
    "from_torch": "gcompile.ir",
    "load_target": "gcompile.targets",
}
_ROOMS = ("ir", "runtime")

__all__ = [
    "Budget",
    "Compiled",
    "CompiledEntries",
    "Entry",
    "Estimate",
    "GcompileError",
    "NodePass",
    "Numerics",
    "Pass",
    "PassContext",
    "Pipeline",
    "Report",
    "Skip",
    "Target",
    "calibrate",
    "compile",
    "compile_entries",
    "decoder_entries",
    "estimate",
    "from_torch",
    "ir",
    "load_target",
    "runtime",
]


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return importlib.import_module(f"gcompile.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'gcompile' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
