"""What products with weights of few bits cost."""

from __future__ import annotations

import pytest

from gcompile import ir, testing
from gcompile.energy import Roofline
from gcompile.energy.job import Job, job_of
from gcompile.energy.kernel import kernel_cost
from gcompile.energy.tiling import choose_tile
from gcompile.passes.pipelines import exact_pipeline
from tests.ir.weight_only import weight_only
from tests.targets.test_detect import detect_recorded

_TARGET = detect_recorded("zen5-virtual")
_K = _N = 512


def _region(dtype: str, block: int = 0, rows: int = 1) -> ir.Region:
    model = weight_only((rows, _K, _N), dtype, block)
    exact_pipeline().apply(model, testing.example_context())
    (region,) = ir.regions(model.graph)
    return region


def _job(dtype: str, block: int = 0) -> Job:
    job = job_of(_region(dtype, block))
    assert job is not None
    return job


def test_weights_count_as_they_are_stored() -> None:
    assert _job("int4", 32).weight_bytes == _K * _N // 2
    assert _job("int4", 32).constant_bytes == _K // 32 * _N * 4
    assert _job("uint8").weight_bytes == _K * _N
    assert _job("uint8").constant_bytes == _N * 4


def test_the_product_is_one_of_floats_and_decoding_is_work() -> None:
    job = _job("int4", 32)
    assert job.precision is ir.Precision.FP32
    assert job.product_ops == 2 * _K * _N
    assert job.vector_ops == 2 * _K * _N + _N


def test_memory_sends_the_stored_bytes() -> None:
    far = 1e12
    sent = {}
    for dtype, block in (("int4", 128), ("int8", 0)):
        job = _job(dtype, block)
        cost = kernel_cost(job, choose_tile(job, _TARGET, 1, far), _TARGET, far)
        sent[dtype] = cost.movement_j[_TARGET.memories[-1].name]
    assert sent["int8"] / sent["int4"] == pytest.approx(2 / (1 + 8 / 128), rel=0.1)


def test_fewer_bits_cost_less_energy() -> None:
    model = Roofline(footprint_bytes=10**12)
    prices = [model.price(_region(*form), _TARGET, 1) for form in (("int4", 64), ("int8", 0))]
    assert prices[0].energy_j < prices[1].energy_j
