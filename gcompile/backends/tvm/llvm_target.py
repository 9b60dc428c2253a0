"""What LLVM is told about a CPU, and what the artefact will demand of the machine it runs on."""

from __future__ import annotations

import tvm

from gcompile.errors import TargetError
from gcompile.runtime.isa import host_platform
from gcompile.targets import Target

_FEATURES = {
    "avx512_vnni": "+avx512vnni",
    "avx512_bf16": "+avx512bf16",
    "avx512_vbmi": "+avx512vbmi",
    "avx_vnni": "+avxvnni",
    "amx_tile": "+amx-tile",
    "amx_int8": "+amx-int8",
    "amx_bf16": "+amx-bf16",
    "f16c": "+f16c",
}
_OPTIONS = ("-disable-machine-licm:bool=1",)
"""Constants of long formulas stay in the loops that use them. Moved out of them they would take
the registers that sums of a product are in, which then go through memory at every step."""

_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_AVX2 = ("avx2", "fma", "bmi1", "bmi2", "f16c")


def llvm_target(target: Target, threads: int) -> tvm.target.Target:
    """Describe the target to LLVM.

    Raises:
        TargetError: The target is not an x86-64 CPU; code for it cannot be generated yet.
    """
    return tvm.target.Target(
        {
            "kind": "llvm",
            "mcpu": _base_cpu(target),
            "mattr": [*_attributes(target), "-prefer-256-bit"],
            "num-cores": threads,
            "cl-opt": list(_OPTIONS),
        }
    )


def platform_of(target: Target) -> str:
    """The platform that code for the target runs on, as `host_platform` names it.

    Code for this machine's architecture is for its operating system, other code for Linux.

    Raises:
        TargetError: Code for this target cannot be generated.
    """
    _base_cpu(target)
    host = host_platform()
    return host if host.partition("-")[2] in ("x86_64", "amd64") else "linux-x86_64"


def required_isa(target: Target) -> tuple[str, ...]:
    """The CPU flags the generated code uses, spelled as Linux spells them."""
    base = {"x86-64-v4": (*_AVX512, *_AVX2), "x86-64-v3": _AVX2}.get(_base_cpu(target), ())
    return tuple(sorted({*base, *(flag for flag in _FEATURES if flag in target.isa)}))


def vector_bits(target: Target) -> int:
    """Width of the vector registers code is written for."""
    return {"x86-64-v4": 512, "x86-64-v3": 256}.get(_base_cpu(target), 128)


def _base_cpu(target: Target) -> str:
    if target.kind != "cpu" or "sse2" not in target.isa:
        raise TargetError(
            f"Code for target {target.name!r} cannot be generated: only x86-64 CPUs are built "
            "for. Use `gcompile estimate` to predict its energy."
        )
    if all(flag in target.isa for flag in _AVX512):
        return "x86-64-v4"
    return "x86-64-v3" if all(flag in target.isa for flag in ("avx2", "fma")) else "x86-64"


def _attributes(target: Target) -> list[str]:
    return [feature for flag, feature in _FEATURES.items() if flag in target.isa]
