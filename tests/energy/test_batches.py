"""What products of computed operands cost."""

from __future__ import annotations

import pytest

from gcompile import ir, testing
from gcompile.energy import Roofline
from gcompile.energy.job import Batch, Job
from gcompile.energy.kernel import kernel_cost
from gcompile.energy.tiling import choose_tile
from gcompile.ir import Contraction, Precision
from gcompile.passes.pipelines import exact_pipeline
from tests.targets.test_detect import detect_recorded

_TARGET = detect_recorded("zen5-virtual")


def _job(pairs: int, rights: int, *, is_transposed: bool = False) -> Job:
    one = Contraction.matmul(128, 64, 128)
    left, right, out = 128 * 64 * 4 * pairs, 64 * 128 * 4 * rights, 128 * 128 * 4 * pairs
    batch = Batch(one, pairs, rights, is_transposed)
    ops = 2 * one.macs * pairs
    return Job(Precision.FP32, None, ops, 0, 0, (left, right, out), 0, batch=batch)


def _seconds(job: Job, threads: int = 1) -> float:
    tile = choose_tile(job, _TARGET, threads, 1e6)
    assert tile.threads == threads
    launches = _TARGET.launch_s + (_TARGET.parallel_launch_s if threads > 1 else 0.0)
    return kernel_cost(job, tile, _TARGET, 1e6).time_s - launches


def test_twice_as_many_products_take_twice_as_long() -> None:
    assert _seconds(_job(24, 24)) == pytest.approx(2 * _seconds(_job(12, 12)), rel=0.05)


def test_bringing_right_operands_into_order_is_paid_for() -> None:
    assert _seconds(_job(12, 12)) > _seconds(_job(12, 1))
    assert _seconds(_job(12, 12, is_transposed=True)) > _seconds(_job(12, 12))


def test_threads_share_the_heads() -> None:
    assert _seconds(_job(12, 12), threads=2) == pytest.approx(_seconds(_job(12, 12)) / 2, rel=0.1)


def test_a_product_that_reads_in_place_is_cheaper_than_a_transpose_before_it() -> None:
    model = ir.parse("""<ir_version: 10, opset_import: ["" : 21]>
        g (float[1,128,4,64] q, float[1,4,64,128] k) => (float[1,4,128,128] y) {
            t = Transpose<perm = [0,2,1,3]>(q)
            y = MatMul(t, k)
        }""")
    apart = [Roofline().price(region, _TARGET, 1) for region in ir.regions(model.graph)]
    exact_pipeline().apply(model, testing.example_context())
    (region,) = ir.regions(model.graph)
    assert region.op == "Transpose+MatMul"
    assert Roofline().price(region, _TARGET, 1).energy_j < sum(cost.energy_j for cost in apart)
