from __future__ import annotations

from pathlib import Path

import pytest

from gcompile.energy.meters import MeterError, Plan, RaplMeter, ReplayClock, measure

RANGE_UJ = 262_143_328_850


def _machine(root: Path, *packages_uj: int) -> Path:
    for i, counter in enumerate(packages_uj):
        _domain(root, f"intel-rapl:{i}", f"package-{i}", counter)
        _domain(root, f"intel-rapl:{i}:0", "core", counter // 2)
    _domain(root, "intel-rapl-mmio:0", "package-0", 1)
    _domain(root, "intel-rapl:9", "psys", 5)
    (root / "intel-rapl").mkdir()
    return root


def _domain(root: Path, folder: str, name: str, counter_uj: int) -> None:
    (root / folder).mkdir(parents=True)
    (root / folder / "name").write_text(f"{name}\n")
    (root / folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    _set(root, folder, counter_uj)


def _set(root: Path, folder: str, counter_uj: int) -> None:
    (root / folder / "energy_uj").write_text(f"{counter_uj}\n")


def test_packages_are_summed_and_their_parts_are_not(tmp_path: Path) -> None:
    meter = RaplMeter(_machine(tmp_path, 1_000_000, 5_000_000))
    start = meter.mark()
    _set(tmp_path, "intel-rapl:0", 3_000_000)
    _set(tmp_path, "intel-rapl:1", 5_500_000)
    _set(tmp_path, "intel-rapl:0:0", 99_000_000)
    assert meter.why_unavailable() is None
    assert meter.energy_j(start, meter.mark()) == pytest.approx(2.5)
    assert meter.method == "RAPL powercap counters of package-0, package-1"
    assert (meter.boundary, meter.reads_live) == ("chip", True)


def test_a_counter_that_wraps_goes_on(tmp_path: Path) -> None:
    meter = RaplMeter(_machine(tmp_path, RANGE_UJ - 1_000_000))
    start = meter.mark()
    _set(tmp_path, "intel-rapl:0", 2_000_000)
    assert meter.energy_j(start, meter.mark()) == pytest.approx(3.0)


def test_a_counter_that_was_reset_is_refused(tmp_path: Path) -> None:
    meter = RaplMeter(_machine(tmp_path, RANGE_UJ))
    start = meter.mark()
    _set(tmp_path, "intel-rapl:0", 0)
    (tmp_path / "intel-rapl:0" / "max_energy_range_uj").write_text("1000\n")
    with pytest.raises(MeterError, match="measure again"):
        meter.energy_j(start, meter.mark())


def test_a_machine_without_counters_says_what_may_be_wrong(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "none"):
        reason = RaplMeter(root).why_unavailable()
        assert reason is not None
        assert "virtual machine" in reason
        assert "modprobe" in reason


def test_a_counter_for_root_only_names_the_command_that_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, read = RaplMeter(_machine(tmp_path, 1)), Path.read_text

    def refuse(path: Path, encoding: str | None = None) -> str:
        if path.name == "energy_uj":
            raise PermissionError(13, "Permission denied")
        return read(path, encoding=encoding)

    monkeypatch.setattr(Path, "read_text", refuse)
    reason = meter.why_unavailable()
    assert reason is not None
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in reason


def test_a_counter_that_is_no_number_or_is_gone_is_named(tmp_path: Path) -> None:
    meter = RaplMeter(_machine(tmp_path, 1))
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("soon\n")
    assert "holds 'soon' where a number belongs" in str(meter.why_unavailable())
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert "No such file" in str(meter.why_unavailable())


def test_a_measurement_reads_the_files(tmp_path: Path) -> None:
    clock = ReplayClock()
    meter = RaplMeter(_machine(tmp_path, 0), clock)

    def infer() -> None:
        clock.sleep(0.5)
        _set(tmp_path, "intel-rapl:0", round(20e6 * clock.now()))

    measured = measure(infer, meter, Plan(window_s=2.0, repeats=3), clock)
    assert measured.power_w == pytest.approx(20.0)
    assert measured.joules_per_inference == pytest.approx(10.0)
