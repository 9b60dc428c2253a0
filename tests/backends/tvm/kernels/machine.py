"""Which units this machine can run, and how LLVM is told to use them."""

from __future__ import annotations

import platform

import pytest

from tests.backends.tvm.kernels.compiling import cpu_flags

_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl")
_NEEDS: dict[str, tuple[str, ...]] = {
    "avx512": _AVX512,
    "avx2": ("avx2", "fma", "f16c"),
    "neon": (),
    "sse": (),
    "sse-int8": (),
    "generic": (),
    "avx512-vnni": (*_AVX512, "avx512_vnni"),
    "avx-vnni": ("avx2", "fma", "f16c", "avx_vnni"),
    "avx2-int8": ("avx2", "fma", "f16c"),
    "avx512-bf16": (*_AVX512, "avx512_bf16"),
    "avx512-bf16-widened": _AVX512,
    "avx2-bf16": ("avx2", "fma", "f16c"),
    "generic-bf16": (),
    "avx512-fp16-widened": (*_AVX512, "f16c"),
    "avx2-fp16-widened": ("avx2", "fma", "f16c"),
}
VECTOR_UNITS = tuple(_NEEDS)

_ATTRIBUTES = {
    "avx512-vnni": ("+avx512vnni",),
    "avx512-bf16": ("+avx512bf16",),
    "avx-vnni": ("+avxvnni",),
}


def machine_for(unit: str) -> tuple[str | None, tuple[str, ...]]:
    """The processor and features to compile a unit's kernels for."""
    if platform.machine() != "x86_64":
        return None, ()
    needs = _NEEDS[unit]
    level = "x86-64-v4" if "avx512f" in needs else "x86-64-v3" if needs else "x86-64-v2"
    return level, _ATTRIBUTES.get(unit, ())


def skip_unless_runnable(unit: str) -> None:
    """Skip a test of a unit whose instructions this machine lacks."""
    missing = set(_NEEDS[unit]) - cpu_flags()
    if missing:
        pytest.skip(f"this processor has no {', '.join(sorted(missing))}")
