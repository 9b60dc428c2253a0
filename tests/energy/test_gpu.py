"""What must hold of GPUs: limits, blocks, boxes around them, and their precisions."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from gcompile import ir
from gcompile.energy import Cost, Roofline, estimate
from gcompile.ir import Precision
from gcompile.targets import Power, Target, load_target
from gcompile.targets.settings import with_clock, with_power_limit
from tests.energy.models import conv, matmul

_A100, _T4 = load_target("nvidia-a100-sxm-80"), load_target("nvidia-t4")
_BOXED = load_target("nvidia-t4-x4-server")


def _cost(model: ir.Model, target: Target, precision: Precision = Precision.FP16) -> Cost:
    return estimate(model, target, Roofline().at(precision)).total


def test_a_limit_above_the_draw_changes_nothing() -> None:
    model = matmul(64, 512, 512)
    total = _cost(model, _A100)
    assert total.energy_j / total.time_s < 300, "a small product does not reach the limit"
    assert _cost(model, with_power_limit(_A100, 350)) == total


def test_a_lower_limit_takes_longer_and_holds() -> None:
    model = matmul(8192, 4096, 4096)
    watts = []
    for limit in (400, 300, 200, 120):
        total = _cost(model, with_power_limit(_A100, limit))
        watts.append(total.energy_j / total.time_s)
        assert watts[-1] <= limit * 1.001
    assert watts == sorted(watts, reverse=True)


def test_energy_of_the_cores_falls_with_the_clock_and_the_static_share_grows() -> None:
    model = matmul(8192, 4096, 4096)
    full, half = _cost(model, _A100), _cost(model, with_power_limit(_A100, 150))
    assert half.compute_j < full.compute_j
    assert half.static_j > full.static_j
    assert half.movement_j["DRAM"] == full.movement_j["DRAM"], "memory keeps its own clock"


def test_where_much_stands_around_a_lower_limit_costs_more() -> None:
    model = matmul(8192, 4096, 4096)
    power = _A100.power
    assert power is not None
    box = replace(_A100, boundary="wall", power=replace(power, host_w=1000.0))
    assert _cost(model, with_power_limit(box, 120)).energy_j > _cost(model, box).energy_j


def test_the_box_is_paid_for_the_time_and_the_supply_for_everything() -> None:
    model = matmul(4096, 1024, 1024)
    bare, boxed = _cost(model, _T4), _cost(model, _BOXED)
    power = _BOXED.power
    assert power is not None
    assert boxed.time_s == bare.time_s
    expected = (bare.energy_j + power.host_w * bare.time_s) / power.supply_efficiency
    assert boxed.energy_j == pytest.approx(expected)


def test_half_the_bits_take_half_the_energy_where_products_rule() -> None:
    model = matmul(16384, 4096, 4096)
    int8, fp16 = (_cost(model, _A100, p).energy_j for p in (Precision.INT8, Precision.FP16))
    assert int8 / fp16 == pytest.approx(0.5, abs=0.05)


def test_a_small_product_leaves_processors_idle() -> None:
    """16 rows are one block of the height; 108 processors wait for the columns."""
    small, large = _cost(matmul(16, 4096, 4096), _A100), _cost(matmul(16384, 4096, 4096), _A100)
    assert small.time_s > 5 * large.time_s * 16 / 16384


def test_energy_per_sample_falls_with_the_batch_to_a_floor() -> None:
    per_sample = [_cost(matmul(rows, 1024, 1024), _A100).energy_j / rows
                  for rows in (1, 16, 256, 4096, 65536)]  # fmt: skip
    assert all(later <= earlier * 1.01 for earlier, later in pairwise(per_sample))
    assert per_sample[-1] > 0.7 * per_sample[-2]


def test_reading_weights_costs_what_decoding_of_language_models_measures() -> None:
    """158 to 200 pJ per weight byte on H100 and B200, static power included."""
    target = load_target("nvidia-h100-sxm")
    total = _cost(matmul(1, 16384, 16384), target)
    assert 1.2e-10 < total.energy_j / (2 * 16384 * 16384) < 2.4e-10


def test_a_fused_chain_never_reads_more_from_main_memory() -> None:
    together = _cost(conv(56, 64, 64, 3), _A100)
    model = conv(56, 64, 64, 3)
    for node in model.graph:
        ir.clear_region(node)
    assert together.movement_j["DRAM"] <= _cost(model, _A100).movement_j["DRAM"]


def test_no_dense_product_runs_at_the_sparse_peak() -> None:
    total = _cost(matmul(16384, 8192, 8192), replace(_A100, power=Power(limit_w=1e9)))
    operations = 2 * 16384 * 8192 * 8192
    assert operations / total.time_s < _A100.unit_for(Precision.FP16).peak_ops_per_s


def test_a_lower_clock_slows_products_and_not_main_memory() -> None:
    slow = with_clock(_A100, _A100.clock_hz / 2)
    product, stream = matmul(8192, 4096, 4096), matmul(1, 8192, 8192)
    assert _cost(product, slow).time_s > 1.2 * _cost(product, _A100).time_s
    assert slow.memories[-1] == _A100.memories[-1]
    assert _cost(stream, slow).movement_j["DRAM"] == _cost(stream, _A100).movement_j["DRAM"]
