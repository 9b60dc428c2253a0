"""What LLVM is told about a CPU, and what the code will ask of the machine it runs on."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gcompile.backends.tvm.llvm_target import llvm_target, required_isa, vector_bits
from gcompile.errors import TargetError
from gcompile.targets import Target, load_target


def with_flags(*flags: str) -> Target:
    """A CPU with SSE2 and these flags."""
    return replace(load_target("generic-x86-avx2"), isa=frozenset({"sse2", *flags}))


AVX2 = ("avx2", "fma", "bmi1", "bmi2", "f16c")
AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")


@pytest.mark.parametrize(
    ("flags", "mcpu", "bits"),
    [
        ((), "x86-64", 128),
        (("avx2",), "x86-64", 128),
        (AVX2, "x86-64-v3", 256),
        ((*AVX2, "avx512f"), "x86-64-v3", 256),
        ((*AVX2, *AVX512), "x86-64-v4", 512),
    ],
)
def test_the_widest_level_whose_flags_are_all_there(
    flags: tuple[str, ...], mcpu: str, bits: int
) -> None:
    target = with_flags(*flags)
    assert llvm_target(target, 2).attrs["mcpu"] == mcpu
    assert vector_bits(target) == bits


def test_the_code_demands_the_flags_of_its_level_and_of_its_units() -> None:
    assert required_isa(with_flags()) == ()
    assert required_isa(with_flags(*AVX2)) == tuple(sorted(AVX2))
    wide = with_flags(*AVX2, *AVX512, "avx512_vnni", "amx_tile", "amx_int8", "sha_ni")
    expected = {*AVX2, *AVX512, "avx512_vnni", "amx_tile", "amx_int8"}
    assert required_isa(wide) == tuple(sorted(expected))


def test_units_are_named_as_llvm_names_them_and_vectors_may_be_wide() -> None:
    wide = with_flags(*AVX2, *AVX512, "avx512_vnni", "avx512_bf16")
    attributes = set(llvm_target(wide, 1).attrs["mattr"])
    assert {"+avx512vnni", "+avx512bf16", "-prefer-256-bit"} <= attributes


def test_threads_are_the_cores_tvm_counts_on() -> None:
    assert int(llvm_target(with_flags(*AVX2), 3).attrs["num-cores"]) == 3


def test_constants_of_formulas_stay_out_of_the_registers_of_sums() -> None:
    assert list(llvm_target(with_flags(*AVX2), 1).attrs["cl-opt"]) == [
        "-disable-machine-licm:bool=1"
    ]


@pytest.mark.parametrize("name", ["eyeriss-like", "nvidia-h100-sxm"])
def test_devices_that_cannot_be_built_for_can_still_be_estimated(name: str) -> None:
    with pytest.raises(TargetError, match=f"'{name}'.*gcompile estimate"):
        llvm_target(load_target(name), 1)
