"""What holds of accelerators, and where approximate multipliers may stand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gcompile.energy import Cost, Roofline, estimate
from gcompile.energy.spatial.weight_stationary import conversions
from gcompile.errors import TargetError
from gcompile.ir import Contraction, Model
from gcompile.targets import Target, load_target, read_target
from gcompile.targets.read import SHIPPED
from tests.energy.models import conv, fused

_EYERISS, _ANALOG = load_target("eyeriss-like"), load_target("analog-cim")


def _cost(model: Model, target: Target) -> Cost:
    return estimate(model, target, Roofline()).total


@pytest.mark.parametrize("target", [_EYERISS, _ANALOG], ids=lambda target: target.name)
def test_products_run_in_the_format_of_the_array_whatever_the_model(target: Target) -> None:
    float_j = _cost(conv(28, 64, 64, 3), target).energy_j
    assert float_j == pytest.approx(
        _cost(conv(28, 64, 64, 3, 1, "int8"), target).energy_j, rel=0.1
    )


def test_main_memory_is_most_of_eyeriss() -> None:
    total = _cost(conv(56, 64, 64, 1), _EYERISS)
    assert total.movement_j["DRAM"] > total.compute_j


def test_a_depthwise_convolution_leaves_most_of_the_array_idle() -> None:
    depthwise = fused(
        "g (float[1,64,56,56] x, float[64,1,3,3] w) => (float[1,64,56,56] y)"
        " { y = Conv<group=64, pads=[1,1,1,1]>(x, w) }"
    )
    per_mac = _cost(depthwise, _EYERISS).energy_j / (64 * 56 * 56 * 9)
    dense = _cost(conv(56, 64, 64, 3), _EYERISS).energy_j / (64 * 64 * 56 * 56 * 9)
    assert per_mac > 3 * dense


def test_an_approximate_multiplier_saves_its_published_power_on_the_products_alone() -> None:
    array = _EYERISS.array
    assert array is not None
    cheap = replace(_EYERISS, name="cheap", array=replace(array, multiplier="mul8u_185Q"))
    exact, approximate = _cost(conv(28, 64, 64, 3), _EYERISS), _cost(conv(28, 64, 64, 3), cheap)
    assert approximate.movement_j == exact.movement_j
    operations_j = 2 * 64 * 64 * 28 * 28 * 9 * _EYERISS.units[0].op_j
    saved = operations_j * 0.8 * (1 - array.multipliers["mul8u_185Q"].power_ratio)
    assert exact.compute_j - approximate.compute_j == pytest.approx(saved)


def test_published_multipliers_trade_power_for_error() -> None:
    array = _EYERISS.array
    assert array is not None
    approximate = [m for m in array.multipliers.values() if m.power_ratio < 1]
    assert len(approximate) >= 3
    by_power = sorted(approximate, key=lambda m: -m.power_ratio)
    errors = [m.mean_absolute_error for m in by_power]
    assert errors == sorted(errors)


@pytest.mark.parametrize("name", ["raspberry-pi-5", "nvidia-t4"])
def test_no_cpu_or_gpu_has_approximate_multipliers(name: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    number = '{value = 1, source = "s", status = "unverified"}'
    path.write_text(
        f'base = "{name}"\n[array]\ndataflow = "row-stationary"\nrows = {number}\n'
        f"columns = {number}\nnoc_j = {number.replace('1', '0', 1)}\n"
    )
    with pytest.raises(TargetError, match=r"key 'array': a [cg]pu has no array"):
        read_target(path)


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('dataflow = "row', 'multiplier = "mul9"\ndataflow = "row', r"'mul9' is not described"),
        ("[array.stores.sums]", "[array.stores.total]", r"array.stores.total"),
        ('"row-stationary"', '"weight-stationary"', r"converts its inputs and outputs"),
    ],
)
def test_a_wrong_array_is_refused(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    text = (SHIPPED / "eyeriss-like.toml").read_text()
    assert old in text
    path = tmp_path / "wrong.toml"
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(TargetError, match=complaint):
        read_target(path)


def test_analog_conversions_by_hand() -> None:
    array = _ANALOG.array
    assert array is not None
    found = conversions(Contraction.matmul(10, 300, 40), array)
    assert found.inputs == 10 * 300 * 2, "40 columns are two arrays of 32"
    assert found.outputs == 10 * 40 * 3, "300 rows are three arrays of 128"
    assert found.steps == 10 * 2 * 3
    assert found.buffer_writes == 10 * 40 + 10 * 40 * 2 * 2, "two partial sums of two bytes"
