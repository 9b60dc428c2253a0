"""Keep LLVM's loop vectorizer away from indices that wrap around.

LLVM 22 vectorizes loops over `x[i % 4]` for processors with AVX-512 as if the index were `i`, and
reads past the end of `x`: what a tile or a window function reads is then wrong. Kernels of ours
are vectors already, and are left alone; what TVM makes of other operators is compiled without
vectorizing where it holds such an index.
"""

from __future__ import annotations

import tvm_ffi
from tvm import tirx
from tvm.target import Target

EMITTED_ATTRIBUTE = "gcompile.emitted"
"""Marks the kernels that gcompile emitted."""

_WITHOUT_VECTORIZER = 1
"""The level of LLVM's optimizer that does not vectorize."""


def compiling_target(function: tirx.PrimFunc, target: Target) -> Target:
    """The target to compile a function for: itself, or the same without LLVM's vectorizer."""
    if EMITTED_ATTRIBUTE in (function.attrs or {}) or not _wraps_around(function):
        return target
    return Target({**target.export(), "opt-level": _WITHOUT_VECTORIZER})


def _wraps_around(function: tirx.PrimFunc) -> bool:
    found: list[object] = []
    tvm_ffi.structural_walk(
        function.body, [(tirx.FloorMod, found.append), (tirx.Mod, found.append)]
    )
    return bool(found)
