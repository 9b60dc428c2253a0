"""Limits and clocks that can be set, and files that are based on others."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcompile.errors import TargetError, UsageError
from gcompile.ir import Precision
from gcompile.targets import load_target, read_target
from gcompile.targets.settings import with_clock, with_power_limit

_A100 = load_target("nvidia-a100-pcie-80")


def test_a_limit_is_set_within_what_the_device_allows() -> None:
    power = with_power_limit(_A100, 195).power
    assert power is not None
    assert power.limit_w == 195
    with pytest.raises(UsageError, match="150 to 300 W, not 400 W"):
        with_power_limit(_A100, 400)
    with pytest.raises(UsageError, match=r"describes no power limit. Add a \[power\] table"):
        with_power_limit(load_target("raspberry-pi-5"), 5)


def test_half_the_clock_halves_the_peak_and_costs_less_per_operation() -> None:
    slow = with_clock(_A100, _A100.clock_hz / 2)
    before, after = _A100.unit_for(Precision.INT8), slow.unit_for(Precision.INT8)
    assert after.peak_ops_per_s == before.peak_ops_per_s / 2
    assert after.op_j == pytest.approx(before.op_j * 0.5**1.15)
    assert slow.memories[-1] == _A100.memories[-1]
    with pytest.raises(UsageError, match="cannot be described at"):
        with_clock(_A100, 2 * _A100.clock_hz)


def test_a_file_holds_only_what_differs_from_its_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        'name = "mine"\nbase = "raspberry-pi-5"\n'
        'static_w = {value = 3.3, source = "meter", status = "measured"}\n'
        '[sources]\nmeter = "My power meter"\n'
    )
    mine, base = read_target(path), load_target("raspberry-pi-5")
    assert (mine.name, mine.static_w) == ("mine", 3.3)
    assert mine.units == base.units
    assert mine.sources["static_w"].text == "My power meter"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('base = "nowhere"\n', "'nowhere' is no target file beside it"),
        ('base = "mine"\n', "'mine' is based on this file itself"),
        ('base = "nvidia-t4"\nboundary = "board"\n[power]\n'
         'host_w = {value = 9, source = "s", status = "unverified"}\n', "inside the boundary"),
        ('base = "nvidia-t4"\n[power]\n'
         'limit_w = {value = 5, source = "s", status = "unverified"}\n', "leaves nothing above"),
        ('base = "nvidia-t4"\n[units.tensor-core-fp16]\n'
         'sparse_ops_per_s = {value = 6e13, source = "s", status = "unverified"}\n',
         "not above the dense peak"),
    ],
)  # fmt: skip
def test_a_wrong_base_or_limit_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(TargetError, match=complaint):
        read_target(path)
