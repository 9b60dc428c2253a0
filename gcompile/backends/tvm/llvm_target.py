"""What LLVM is told about a CPU, and what the artefact will demand of the machine it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gcompile.errors import TargetError
from gcompile.runtime.isa import host_platform
from gcompile.targets import Target

if TYPE_CHECKING:
    import tvm

_OPTIONS = ("-disable-machine-licm:bool=1",)
"""Constants of long formulas stay in the loops that use them. Moved out of them they would take
the registers that sums of a product are in, which then go through memory at every step."""

_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_AVX2 = ("avx2", "fma", "bmi1", "bmi2", "f16c")


@dataclass(frozen=True)
class _Level:
    """A set of instructions that processors have together.

    Attributes:
        cpu: What LLVM calls it.
        sign: The flags by which a processor of this level is known.
        required: The flags of all instructions that LLVM may use.
    """

    cpu: str
    sign: tuple[str, ...]
    required: tuple[str, ...]
    vector_bits: int


@dataclass(frozen=True)
class _Architecture:
    """A family of processors.

    Attributes:
        names: What operating systems call it.
        baseline: The flag that all of its processors have.
        levels: The levels of its instruction sets, the highest first.
        features: What LLVM calls a flag that code may use.
        attributes: What LLVM is told besides.
    """

    names: tuple[str, ...]
    triple: str
    baseline: str
    levels: tuple[_Level, ...]
    features: Mapping[str, str]
    attributes: tuple[str, ...]


_ARCHITECTURES = (
    _Architecture(
        names=("x86_64", "amd64"),
        triple="x86_64-linux-gnu",
        baseline="sse2",
        levels=(
            _Level("x86-64-v4", _AVX512, (*_AVX512, *_AVX2), 512),
            _Level("x86-64-v3", ("avx2", "fma"), _AVX2, 256),
            _Level("x86-64", (), (), 128),
        ),
        features={
            "avx512_vnni": "+avx512vnni",
            "avx512_bf16": "+avx512bf16",
            "avx512_fp16": "+avx512fp16",
            "avx512_vbmi": "+avx512vbmi",
            "avx_vnni": "+avxvnni",
            "amx_tile": "+amx-tile",
            "amx_int8": "+amx-int8",
            "amx_bf16": "+amx-bf16",
            "f16c": "+f16c",
        },
        attributes=("-prefer-256-bit",),
    ),
    _Architecture(
        names=("aarch64", "arm64"),
        triple="aarch64-linux-gnu",
        baseline="asimd",
        levels=(_Level("generic", (), ("asimd",), 128),),
        features={
            "asimd": "+neon",
            "asimddp": "+dotprod",
            "asimdhp": "+fullfp16",
            "asimdfhm": "+fp16fml",
            "i8mm": "+i8mm",
            "bf16": "+bf16",
        },
        attributes=(),
    ),
)


def llvm_target(target: Target, threads: int) -> tvm.target.Target:
    """Describe the target to LLVM.

    Raises:
        TargetError: Code for this target cannot be generated.
    """
    import tvm  # Loading it takes a second; what code demands of a machine is known without.

    architecture = _architecture(target)
    options: dict[str, object] = {
        "kind": "llvm",
        "mcpu": _level(target).cpu,
        "mattr": [
            *(feature for flag, feature in architecture.features.items() if flag in target.isa),
            *architecture.attributes,
        ],
        "num-cores": threads,
        "cl-opt": list(_OPTIONS),
    }
    if platform_of(target) != host_platform():
        options["mtriple"] = architecture.triple
    return tvm.target.Target(options)


def platform_of(target: Target) -> str:
    """The platform that code for the target runs on, as `host_platform` names it.

    Code for this machine's architecture is for its operating system, other code for Linux.

    Raises:
        TargetError: Code for this target cannot be generated.
    """
    names, host = _architecture(target).names, host_platform()
    return host if host.partition("-")[2] in names else f"linux-{names[0]}"


def required_isa(target: Target) -> tuple[str, ...]:
    """The CPU flags the generated code uses, spelled as Linux spells them."""
    features = _architecture(target).features
    return tuple(sorted({*_level(target).required, *(f for f in features if f in target.isa)}))


def vector_bits(target: Target) -> int:
    """Width of the vector registers code is written for."""
    return _level(target).vector_bits


def _architecture(target: Target) -> _Architecture:
    for architecture in _ARCHITECTURES:
        if target.kind == "cpu" and architecture.baseline in target.isa:
            return architecture
    raise TargetError(
        f"Code for target {target.name!r} cannot be generated: only x86-64 and 64-bit ARM CPUs "
        "are built for. Use `gcompile estimate` to predict its energy."
    )


def _level(target: Target) -> _Level:
    levels = _architecture(target).levels
    return next(level for level in levels if target.isa.issuperset(level.sign))
