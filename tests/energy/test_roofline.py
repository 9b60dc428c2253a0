"""What must hold of every price, whatever the coefficients."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from gcompile import ir
from gcompile.energy import Cost, Estimate, Roofline, estimate, footprint_of
from gcompile.targets import Target, list_targets, load_target
from tests.energy.models import conv, fused, matmul, mlp, only_region, with_constants
from tests.targets.test_detect import detect_recorded

_ZEN5 = detect_recorded("zen5-virtual")
_NAMES = [name for name in list_targets() if name != "cpu"]
_RESIDUAL = """g (float[1,32,28,28] x, float[32,32,3,3] w) => (float[1,32,28,28] y) {
    c = Conv<pads=[1,1,1,1]>(x, w)
    s = Add(c, x)
    y = Relu(s)
}"""


def _estimate(model: ir.Model, target: Target = _ZEN5, threads: int = 1) -> Estimate:
    return estimate(model, target, Roofline(), threads)


def _cost(model: ir.Model, target: Target = _ZEN5, threads: int = 1) -> Cost:
    return _estimate(model, target, threads).total


@pytest.mark.parametrize("name", _NAMES)
@pytest.mark.parametrize("build", [lambda: conv(14, 64, 64, 3), lambda: mlp(64, 128, 10)])
def test_every_target_prices_every_cause(name: str, build: object) -> None:
    assert callable(build)
    target = load_target(name)
    total = _cost(build(), target)
    assert total.time_s > 0
    assert total.compute_j > 0
    assert total.static_j > 0
    assert set(total.movement_j) >= {memory.name for memory in target.memories}
    assert all(joules >= 0 for joules in total.movement_j.values())


@pytest.mark.parametrize("name", [*_NAMES, "zen5"])
def test_fusing_raises_neither_energy_nor_traffic_at_any_level(name: str) -> None:
    target = _ZEN5 if name == "zen5" else load_target(name)
    apart, together = _cost(with_constants(_RESIDUAL), target), _cost(fused(_RESIDUAL), target)
    assert together.energy_j < apart.energy_j
    assert together.launch_j <= apart.launch_j
    for level, joules in together.movement_j.items():
        assert joules <= apart.movement_j[level] * 1.0001, level


def test_energy_per_sample_falls_with_the_batch_to_a_floor() -> None:
    batches = (1, 4, 16, 64, 256)
    per_sample = [_cost(mlp(64, 256, 64, batch=b)).energy_j / b for b in batches]
    assert all(later <= earlier * 1.001 for earlier, later in pairwise(per_sample))
    assert per_sample[-1] > 0.8 * per_sample[-2], "the floor is arithmetic"


def test_zeros_change_nothing_on_dense_kernels() -> None:
    sparse, dense = matmul(16, 64, 64), matmul(16, 64, 64)
    for value in dense.graph.initializers.values():
        value.const_value = ir.tensor(np.ones((64, 64), np.float32), name=value.name)
    assert _cost(sparse) == _cost(dense)


def test_views_are_free() -> None:
    view = only_region(fused("g (float[2,8] x) => (float[16] y) { y = Flatten<axis=0>(x) }"))
    copy = only_region(fused("g (float[2,8] x) => (float[8,2] y) { y = Transpose(x) }"))
    assert Roofline().price(view, _ZEN5, 1) == Cost()
    assert Roofline().price(copy, _ZEN5, 1).energy_j > 0


@pytest.mark.parametrize(("scale", "zero", "is_free"), [(0.5, 3, True), (0.25, 3, False),
                                                        (0.5, 4, False)])  # fmt: skip
def test_a_view_of_stored_numbers_is_free_where_they_stay(
    scale: float, zero: int, is_free: bool
) -> None:
    view = only_region(
        fused(
            f"""g (uint8[2,8] x) => (uint8[16] y) <float s = {{0.5}}, uint8 z = {{3}},
                float t = {{{scale}}}, uint8 u = {{{zero}}}> {{
                d = DequantizeLinear(x, s, z)
                f = Flatten<axis=0>(d)
                y = QuantizeLinear(f, t, u)
            }}"""
        )
    )
    assert (Roofline().price(view, _ZEN5, 1) == Cost()) is is_free


def test_a_view_of_halves_is_free() -> None:
    text = """g (bfloat16[2,8] x) => (bfloat16[16] y)
        { d = Cast<to = 1>(x) f = Flatten<axis=0>(d) y = Cast<to = 16>(f) }"""
    assert Roofline().price(only_region(fused(text)), _ZEN5, 1) == Cost()


def test_int8_dot_products_take_a_quarter_of_the_time() -> None:
    fp32, bf16, int8 = (_cost(conv(28, 128, 128, 3, 1, p)) for p in ("fp32", "bf16", "int8"))
    assert int8.time_s == pytest.approx(fp32.time_s / 4, rel=0.1)
    assert bf16.time_s == pytest.approx(fp32.time_s / 2, rel=0.1)
    assert int8.energy_j == pytest.approx(fp32.energy_j / 4, rel=0.15)


def test_int8_without_dot_products_saves_next_to_nothing() -> None:
    target = load_target("generic-x86-avx2")
    fp32, int8 = (_cost(conv(28, 128, 128, 3, 1, p), target) for p in ("fp32", "int8"))
    assert int8.time_s > 0.8 * fp32.time_s


def test_a_precision_without_a_unit_is_priced_as_what_really_runs() -> None:
    target = load_target("raspberry-pi-4b")
    fp32, int8 = (_cost(conv(28, 64, 64, 3, 1, p), target) for p in ("fp32", "int8"))
    assert int8.time_s >= 0.98 * fp32.time_s


def test_narrow_products_pay_for_the_lanes_they_leave_empty() -> None:
    def joules_per_column(n: int) -> float:
        return _cost(matmul(256, 256, n, "int8")).energy_j / n

    assert joules_per_column(4) > 2 * joules_per_column(256)


def test_a_quantize_that_is_not_fused_costs_a_kernel() -> None:
    together = conv(14, 32, 32, 3, 1, "int8")
    apart = conv(14, 32, 32, 3, 1, "int8")
    for node in apart.graph:
        if node.op_type == "QuantizeLinear":
            ir.assign_region(node, "alone")
    assert _cost(apart).energy_j > _cost(together).energy_j + _ZEN5.launch_j


def test_decoding_weights_that_the_kernel_folds_is_not_charged() -> None:
    model = matmul(1, 512, 512, "int8")
    assert _cost(model).time_s < 3e-6, "decoding 262,144 weights would take longer"


def test_one_row_is_bound_by_the_memory_its_weights_live_in() -> None:
    model = matmul(1, 4096, 4096)
    dram = _ZEN5.memories[-1]
    weights = 4096 * 4096 * 4
    assert _cost(model).time_s == pytest.approx(weights / dram.core_bytes_per_s, rel=0.05)


def test_weights_stay_where_the_whole_model_fits() -> None:
    small, large = matmul(1, 64, 128), mlp(64, 128, *(4096,) * 3)
    alone = _cost(small).movement_j
    within = next(iter(_estimate(large).per_region.values())).movement_j
    assert alone["DRAM"] == 0
    assert alone["L2"] == 0
    assert within["DRAM"] > 0, "the other layers push its weights out of every cache"


def test_the_footprint_counts_constants_and_the_largest_values() -> None:
    model = matmul(4, 16, 32)
    assert footprint_of(model) == 4 * (16 * 32 + 4 * 16 + 4 * 32)


def test_a_tiny_network_is_mostly_launches() -> None:
    total = _cost(mlp(64, 128, 10))
    assert 2 * _ZEN5.launch_s < total.time_s < 2e-6


def test_a_second_core_pays_on_large_kernels_only() -> None:
    large, tiny = conv(28, 128, 128, 3), mlp(64, 128, 10)
    assert _cost(large, threads=2).time_s < 0.6 * _cost(large).time_s
    assert _cost(tiny, threads=2) == _cost(tiny)


def test_static_power_is_shared_only_on_shared_devices() -> None:
    model = conv(14, 64, 64, 3)
    whole = dataclasses.replace(_ZEN5, is_shared=False)
    shared_j, whole_j = _cost(model).static_j, _cost(model, whole).static_j
    assert whole_j == pytest.approx(_ZEN5.cores * shared_j)


def test_depthwise_runs_on_the_vector_unit() -> None:
    model = fused(
        "g (float[1,64,28,28] x, float[64,1,3,3] w) => (float[1,64,28,28] y)"
        " { y = Conv<group=64, pads=[1,1,1,1]>(x, w) }"
    )
    operations = 2 * 9 * 64 * 28 * 28
    vector = _ZEN5.unit_for(ir.Precision.FP32, dense=False)
    rate = vector.peak_ops_per_s / _ZEN5.cores * _ZEN5.vector_efficiency
    assert _cost(model).time_s == pytest.approx(operations / rate + _ZEN5.launch_s, rel=0.01)


def test_a_tile_of_another_unit_or_more_threads_is_stale() -> None:
    model = conv(14, 64, 64, 3)
    before = _cost(model)
    ir.set_tile(only_region(model), ir.Tile("neon", 1, 1))
    assert _cost(model) == before
    ir.set_tile(only_region(model), ir.Tile("avx512", 8, 2, threads=2))
    assert _cost(model, threads=1) == before


def test_a_bad_tile_is_priced_as_bad_as_it_is() -> None:
    model = conv(14, 64, 64, 3)
    before = _cost(model)
    ir.set_tile(only_region(model), ir.Tile("avx512", 1, 1))
    assert _cost(model).time_s > 1.8 * before.time_s


@pytest.mark.parametrize("precision", [ir.Precision.BF16, ir.Precision.INT8])
def test_a_model_can_be_priced_as_if_it_ran_in_another_precision(precision: ir.Precision) -> None:
    plain, real = conv(28, 64, 64, 3), conv(28, 64, 64, 3, 1, str(precision))
    supposed = estimate(plain, _ZEN5, Roofline().at(precision)).total
    assert supposed.time_s == pytest.approx(_cost(real).time_s, rel=0.1)
    assert estimate(plain, _ZEN5, Roofline().at(None)).total == _cost(plain)


def test_an_estimate_says_what_it_includes_and_how_sure_it_is() -> None:
    found = _estimate(mlp(8, 4))
    assert (found.boundary, found.idle_policy, found.by) == ("chip", "full", "roofline")
    assert found.relative_error == _ZEN5.relative_error
    assert found.ratio_error < found.relative_error
    assert found.low_j < found.total.energy_j < found.high_j


def test_a_large_board_model_agrees_with_a_wall_meter_within_its_error() -> None:
    """ResNet-50 in fp32 on a Raspberry Pi 4: 1.8 to 3.4 J at the wall, by runtime."""
    target = load_target("raspberry-pi-4b")
    layers = [(56, 64, 64, 3), (28, 128, 128, 3), (14, 256, 256, 3), (7, 512, 512, 3)]
    joules = operations = 0.0
    for layer in layers:
        model = conv(*layer)
        joules += _cost(model, target, threads=4).energy_j
        operations += ir.work_of(only_region(model)).product_ops
    whole_j = joules * 8.2e9 / operations
    assert 1.83 / 1.6 < whole_j < 3.42 * 1.6
