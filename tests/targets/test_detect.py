"""Detection reads recorded machines; nothing here depends on the machine the tests run on."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from gcompile.ir import Precision
from gcompile.targets import Target, detect_host, load_target
from gcompile.targets.machine import read_machine
from gcompile.targets.microarchitecture import core_of
from gcompile.targets.units import units_of

_MACHINES = Path(__file__).parent / "machines"


def detect_recorded(name: str, cores: int = 2) -> Target:
    """Describe one of the recorded machines."""
    return detect_host(_MACHINES / name, cores)


def _names(target: Target) -> set[str]:
    return {unit.name for unit in target.units}


def test_zen_5_has_two_512_bit_pipes() -> None:
    target = detect_recorded("zen5-virtual")
    fp32 = target.unit_for(Precision.FP32)
    assert fp32.name == "avx512"
    assert fp32.peak_ops_per_s == pytest.approx(2 * 64 * target.clock_hz)
    assert target.unit_for(Precision.INT8).name == "avx512-vnni"
    assert target.unit_for(Precision.INT8).peak_ops_per_s == 4 * fp32.peak_ops_per_s
    assert target.unit_for(Precision.BF16).peak_ops_per_s == 2 * fp32.peak_ops_per_s
    assert not any(name.startswith("amx") for name in _names(target))


def test_a_virtual_machine_reports_its_timer_so_the_family_gives_the_clock() -> None:
    assert detect_recorded("zen5-virtual").clock_hz > 2.6e9


def test_caches_come_from_the_system() -> None:
    l1, l2, l3, dram = detect_recorded("zen5-virtual").memories
    assert (l1.size_bytes, l2.size_bytes, l3.size_bytes) == (48 * 1024, 1024**2, 32 * 1024**2)
    assert (l1.per_core, l2.per_core, l3.per_core) == (True, True, False)
    assert dram.size_bytes == 24683000 * 1024


def test_the_wider_of_two_equally_fast_units_is_taken() -> None:
    """Zen 4 works through 512 bits per cycle either way, but AVX-512 has twice the registers."""
    recorded = read_machine(_MACHINES / "zen5-virtual", cores=1)
    zen4 = core_of(dataclasses.replace(recorded, family=25, model=17))
    units = units_of(recorded.flags, zen4, 1, 3e9)
    assert units[0].name == "avx512"
    assert {u.peak_ops_per_s for u in units if u.precision is Precision.FP32} == {96e9}


def test_amx_multiplies_1024_int8_products_per_cycle() -> None:
    target = detect_recorded("sapphire-rapids", cores=1)
    int8, bf16 = target.unit_for(Precision.INT8), target.unit_for(Precision.BF16)
    assert (int8.name, bf16.name) == ("amx-int8", "amx-bf16")
    assert int8.peak_ops_per_s == pytest.approx(2048 * target.clock_hz)
    assert bf16.peak_ops_per_s == pytest.approx(1024 * target.clock_hz)
    assert target.unit_for(Precision.INT8, dense=False).name == "avx512-vnni"


def test_int8_without_a_dot_product_is_no_faster_than_fp32() -> None:
    target = detect_recorded("laptop-avx2", cores=4)
    fp32, int8 = target.unit_for(Precision.FP32), target.unit_for(Precision.INT8)
    assert (fp32.name, int8.name) == ("avx2", "avx2-int8")
    assert int8.peak_ops_per_s == fp32.peak_ops_per_s
    assert target.clock_hz == 4.2e9
    assert not target.is_shared


def test_fp16_that_is_widened_is_no_faster_than_fp32() -> None:
    for name, unit in {"laptop-avx2": "avx2", "raspberry-pi-4": "neon"}.items():
        target = detect_recorded(name)
        fp32, fp16 = target.unit_for(Precision.FP32), target.unit_for(Precision.FP16)
        assert (fp32.name, fp16.name) == (unit, f"{unit}-fp16-widened")
        assert fp16.peak_ops_per_s == fp32.peak_ops_per_s
        assert fp16.efficiency <= fp32.efficiency


def test_a_processor_without_f16c_has_no_fp16() -> None:
    recorded = read_machine(_MACHINES / "laptop-avx2")
    units = units_of(recorded.flags - {"f16c"}, core_of(recorded), 1, 3e9)
    assert Precision.FP16 not in {unit.precision for unit in units}


def test_a_raspberry_pi_multiplies_bytes_no_faster_than_fp32() -> None:
    target = detect_recorded("raspberry-pi-4", cores=4)
    int8 = target.unit_for(Precision.INT8)
    assert int8.name == "neon-int8"
    assert int8.peak_ops_per_s == target.unit_for(Precision.FP32).peak_ops_per_s
    assert target.clock_hz == 1.8e9
    assert target.unit_for(Precision.FP32).peak_ops_per_s == pytest.approx(57.6e9)
    assert [memory.name for memory in target.memories] == ["L1", "L2", "DRAM"]


def test_matrix_instructions_of_arm_double_dot_products() -> None:
    core = core_of(read_machine(_MACHINES / "raspberry-pi-4"))
    flags = frozenset({"asimd", "asimddp", "i8mm", "bf16"})
    peaks = {unit.name: unit.peak_ops_per_s for unit in units_of(flags, core, 1, 3e9)}
    assert peaks["neon-i8mm"] == 2 * peaks["neon-dotprod"] == 8 * peaks["neon"]
    assert peaks["neon-bf16-mmla"] == 4 * peaks["neon"]


def test_arm_multiplies_fp16_without_widening_where_it_can() -> None:
    core = core_of(read_machine(_MACHINES / "raspberry-pi-4"))
    flags = frozenset({"asimd", "asimdhp", "asimdfhm"})
    units = {unit.name: unit for unit in units_of(flags, core, 1, 3e9)}
    assert units["neon-fp16"].peak_ops_per_s == units["neon"].peak_ops_per_s
    assert units["neon-fp16"].efficiency == units["neon"].efficiency


@pytest.mark.parametrize(
    "name", ["zen5-virtual", "sapphire-rapids", "laptop-avx2", "raspberry-pi-4"]
)
def test_every_detected_machine_is_whole_and_honest(name: str) -> None:
    target = detect_recorded(name)
    assert target.is_host
    assert target.relative_error >= 0.6, "nothing was measured"
    assert target.static_w > 0
    assert target.core_w > 0
    sizes = [memory.size_bytes for memory in target.memories]
    rates = [memory.bytes_per_s for memory in target.memories]
    prices = [memory.byte_j for memory in target.memories]
    assert sizes == sorted(sizes)
    assert rates == sorted(rates, reverse=True)
    assert prices == sorted(prices)
    assert "active_w" in " ".join(target.sources)


def test_active_power_is_drawn_at_the_anchor() -> None:
    """Operations at 0.8 of the peak and the running core draw the active power together."""
    target = detect_recorded("zen5-virtual", cores=1)
    for unit in target.units:
        operations_w = unit.op_j * 0.8 * unit.peak_ops_per_s
        assert operations_w + target.core_w == pytest.approx(3.0)


def test_a_machine_that_tells_nothing_is_described_with_caution(tmp_path: Path) -> None:
    target = detect_host(tmp_path, cores=3)
    assert target.cores == 3
    assert target.unit_for(Precision.FP32).kind == "simd"
    assert "assumed" in target.description


def test_a_container_quota_limits_the_cores(tmp_path: Path) -> None:
    quota = tmp_path / "sys/fs/cgroup/cpu.max"
    quota.parent.mkdir(parents=True)
    quota.write_text("100000 100000\n")
    assert read_machine(tmp_path).usable_cores == 1


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    if not hasattr(os, "sched_getaffinity"):
        pytest.skip("this system does not tell which processors a process may use")
    for index in os.sched_getaffinity(0):
        path = tmp_path / f"sys/devices/system/cpu/cpu{index}/topology/thread_siblings_list"
        path.parent.mkdir(parents=True)
        path.write_text("0-1023\n")
    assert read_machine(tmp_path).usable_cores == 1


def test_this_machine_can_be_described() -> None:
    target = load_target("cpu")
    assert target.is_host
    assert target.cores >= 1
