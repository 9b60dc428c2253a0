"""Target files: the ones that ship are sound, and unsound ones are refused with file and key."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

import gcompile.targets
from gcompile.errors import TargetError, UnknownNameError
from gcompile.ir import Precision
from gcompile.targets import list_targets, load_target, read_target

_DATA = Path(gcompile.targets.__file__).parent / "data"
_SHIPPED = sorted(_DATA.glob("*.toml"))


@pytest.mark.parametrize("path", _SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_target_is_sound(path: Path) -> None:
    target = read_target(path)
    assert target.name == path.stem
    assert not target.is_host
    for inner, outer in pairwise(target.memories):
        assert inner.size_bytes <= outer.size_bytes
        assert inner.bytes_per_s >= outer.bytes_per_s
        assert inner.byte_j <= outer.byte_j


@pytest.mark.parametrize("path", _SHIPPED, ids=lambda path: path.stem)
def test_every_number_has_a_source_in_words(path: Path) -> None:
    target = read_target(path)
    for key, source in target.sources.items():
        assert " " in source.text, (
            f"{key} names {source.text!r}, which no [sources] entry explains"
        )
        if "from memory" in source.text:
            assert source.status == "unverified", key
    assert {"static_w", "launch_s", "relative_error"} <= set(target.sources)


@pytest.mark.parametrize("path", _SHIPPED, ids=lambda path: path.stem)
def test_vector_units_have_a_whole_number_of_pipes(path: Path) -> None:
    target = read_target(path)
    if target.kind != "cpu":
        return
    for unit in target.units:
        if unit.kind == "simd":
            per_cycle = unit.peak_ops_per_s / target.cores / target.clock_hz
            # Products of widened operands are one instruction for each part.
            pipes = per_cycle / (2 * unit.lanes * unit.depth) * unit.operand_registers
            assert pipes == pytest.approx(round(pipes), rel=1e-3), unit.name
            assert round(pipes) in (1, 2, 3, 4), unit.name


def test_gpu_peaks_are_dense() -> None:
    assert load_target("nvidia-h100-sxm").unit_for(Precision.BF16).peak_ops_per_s < 1e15
    assert load_target("nvidia-a100-sxm-80").unit_for(Precision.INT8).peak_ops_per_s == 624e12


def test_sparse_peaks_stand_apart_and_are_twice_the_dense_ones() -> None:
    for path in _SHIPPED:
        for unit in read_target(path).units:
            if unit.sparse_ops_per_s:
                assert unit.sparse_ops_per_s == pytest.approx(2 * unit.peak_ops_per_s, rel=1e-3)
    assert load_target("nvidia-a100-sxm-80").unit_for(Precision.INT8).sparse_ops_per_s == 1248e12
    assert not load_target("nvidia-t4").unit_for(Precision.INT8).sparse_ops_per_s


def test_amx_does_2048_int8_operations_per_core_and_cycle() -> None:
    for name in ("intel-xeon-8490h", "intel-xeon-6980p"):
        target = load_target(name)
        per_cycle = target.unit_for(Precision.INT8).peak_ops_per_s
        assert per_cycle / target.cores / target.clock_hz == pytest.approx(2048, rel=1e-3)


@pytest.mark.parametrize("path", _SHIPPED, ids=lambda path: path.stem)
def test_unverified_numbers_widen_the_uncertainty(path: Path) -> None:
    target = read_target(path)
    power = {"static_w", "core_w", "power.limit_w"} & target.sources.keys()
    if any(target.sources[key].status == "unverified" for key in power):
        assert target.relative_error >= 0.6
    assert target.relative_error >= 0.6 or target.calibrated


def test_every_device_of_the_table_ships() -> None:
    devices = {
        "nvidia-t4", "nvidia-a10", "nvidia-a100-sxm-40", "nvidia-a100-sxm-80",
        "nvidia-a100-pcie-80", "nvidia-l4", "nvidia-l40s", "nvidia-h100-sxm", "nvidia-h100-pcie",
        "nvidia-h200-sxm", "nvidia-b200", "nvidia-rtx4090", "nvidia-jetson-agx-orin-64",
        "nvidia-jetson-xavier-nx", "intel-xeon-8380", "intel-xeon-8490h", "intel-xeon-6980p",
        "amd-epyc-7763", "amd-epyc-9654", "aws-graviton3", "apple-m2", "apple-m3-max",
        "raspberry-pi-4b", "raspberry-pi-5", "odroid-n2plus", "rk3588s-firefly",
    }  # fmt: skip
    assert devices <= set(list_targets())


def test_the_names_of_instruction_set_levels_are_targets() -> None:
    assert load_target("x86-64-v3").unit_for(Precision.FP32).name == "avx2"
    assert load_target("x86-64-v4").unit_for(Precision.FP32).name == "avx512"
    assert {"cpu", "x86-64-v3", "raspberry-pi-4b", "intel-xeon-8490h"} <= set(list_targets())


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UnknownNameError, match=r"Known targets: .*Did you mean 'raspberry-pi-4b'"):
        load_target("raspbery-pi-4b")
    with pytest.raises(UnknownNameError, match=r"Did you mean 'nvidia-a100'"):
        load_target("a100")


def test_a_file_is_a_target(tmp_path: Path) -> None:
    copy = tmp_path / "mine.toml"
    copy.write_text((_DATA / "raspberry-pi-5.toml").read_text())
    assert load_target(str(copy)) == load_target("raspberry-pi-5")
    assert load_target(copy).unit_for(Precision.INT8).name == "neon-dotprod"


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('kind = "cpu"\n', 'kind = "cpu"\ncolour = 1\n', r"key 'colour': Extra inputs"),
        ('kind = "cpu"\n', 'kind = "toaster"\n', r"key 'kind'"),
        ("static_w = {value = 2.83, ", "static_w = {value = -1, ", r"key 'static_w.value'"),
        ("static_w = {value = 2.83, ", "static_w = {value = 2e6, ", r"'static_w': 2e\+06 is outs"),
        ("clock_hz = {value = 1.8e+09", "clock_hz = {value = 1.8", r"SI units"),
        (
            'clock_hz = {value = 1.8e+09, source = "mlperf", status = "read"}',
            "clock_hz = {value = 1.8e+09}",
            r"key 'clock_hz.source'",
        ),
        ("[units.neon]", "[units.neon", r"not valid TOML"),
        ('precision = "fp32"', 'precision = "int8"', r"no unit has kind 'simd' and precision"),
        ("size_bytes = {value = 32768", "size_bytes = {value = 3e9", r"memories\.L2\.size_bytes"),
        ("byte_j = {value = 2e-12", "byte_j = {value = 2", r"memories\.L1\.byte_j"),
    ],
)
def test_a_wrong_file_is_refused_by_file_and_key(
    tmp_path: Path, old: str, new: str, complaint: str
) -> None:
    text = (_DATA / "raspberry-pi-4b.toml").read_text()
    assert old in text
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(TargetError, match=complaint) as caught:
        read_target(path)
    assert "wrong.toml" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"nowhere\.toml"):
        read_target(tmp_path / "nowhere.toml")
