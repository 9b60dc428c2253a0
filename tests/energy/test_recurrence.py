"""Recurrent nets are priced as one product, and steps that read the same weights each time."""

from __future__ import annotations

from dataclasses import replace

from gcompile import ir
from gcompile.energy import Roofline
from gcompile.energy.job import job_of
from gcompile.testing import example_target


def region(steps: int, batch: int = 1) -> ir.Region:
    """A GRU from 40 inputs to 80 hidden units."""
    model = ir.parse(
        f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[{steps},{batch},40] x, float[1,240,40] w, float[1,240,80] r) => (float[?,?,?,?] y)
        {{ y = GRU<hidden_size = 80>(x, w, r) }}"""
    )
    return ir.regions(model.graph)[0]


def test_both_products_are_counted() -> None:
    work = ir.work_of(region(10, batch=3))
    assert work.product_ops == 2 * 10 * 3 * 240 * 40
    assert work.vector_ops > 2 * 10 * 3 * 240 * 80


def test_every_step_reads_the_weights_again() -> None:
    job = job_of(region(10))
    assert job is not None
    assert (job.steps, job.step_bytes) == (10, 240 * 80 * 4)


def test_weights_that_the_nearest_cache_cannot_hold_come_from_memory_in_every_step() -> None:
    target = example_target()
    small, memory = target.memories
    large = replace(target, memories=(replace(small, size_bytes=1e6), memory))
    net = region(100)
    far, near = (Roofline().price(net, t, 1).movement_j["DRAM"] for t in (target, large))
    assert far - near >= 99 * 240 * 80 * 4 * memory.byte_j * 0.99
