"""Bytes per level, worked out by hand for small products."""

from __future__ import annotations

import math

import pytest

from gcompile.energy.job import Job, job_of
from gcompile.energy.kernel import blocks_of
from gcompile.energy.traffic import resident_share, traffic
from gcompile.ir import Precision, Tile
from gcompile.targets import Memory, Target, Unit, load_target
from tests.energy.models import conv, fused, matmul, only_region


def _target(*, l1: float = 32768.0, l2: float = 1e6, cores: int = 1) -> Target:
    """One pipe of 4 lanes; two caches of each core, and main memory."""
    return Target(
        name="four-lanes",
        kind="cpu",
        description="",
        boundary="chip",
        isa=frozenset(),
        cores=cores,
        clock_hz=1e9,
        units=(Unit("lanes", "simd", Precision.FP32, 8e9 * cores, 1.0, 1e-12, registers=16),),
        memories=(
            Memory("L1", l1, 32e9 * cores, 1e-12, per_core=True),
            Memory("L2", l2, 16e9 * cores, 5e-12, per_core=True),
            Memory("DRAM", 1e9, 4e9, 1e-10),
        ),
        static_w=1.0,
        launch_s=1e-6,
        launch_j=1e-7,
        relative_error=0.6,
    )


def _bytes(
    m: int, k: int, n: int, tile: Tile, target: Target, footprint: float
) -> dict[str, float]:
    job = job_of(only_region(matmul(m, k, n)))
    assert job is not None
    return traffic(job, tile, blocks_of(job, tile, target), target, footprint)


def test_registers_load_the_weights_per_row_block_and_the_image_per_column_block() -> None:
    # 8x16 times 16x32, blocks of 4 rows by 2 vectors of 4 lanes: 2 row blocks, 4 column blocks.
    sent = _bytes(8, 16, 32, Tile("lanes", 4, 2), _target(), 1e3)
    weights, image, written = 16 * 32 * 4, 8 * 16 * 4, 8 * 32 * 4
    assert sent["L1"] == 2 * weights + 4 * image + written


def test_what_fits_the_first_cache_sends_nothing_from_further_out() -> None:
    sent = _bytes(8, 16, 32, Tile("lanes", 4, 2), _target(), 1e3)
    assert sent["L2"] == sent["DRAM"] == 0


def test_weights_of_a_large_model_stream_from_main_memory_once() -> None:
    # 64x64 weights of 16,384 bytes; the model is far larger than both caches.
    sent = _bytes(8, 64, 64, Tile("lanes", 4, 2, outer="n"), _target(), 1e9)
    assert sent["DRAM"] == 64 * 64 * 4
    assert sent["L2"] == 64 * 64 * 4


def test_the_image_is_read_once_per_column_panel_when_it_does_not_stay() -> None:
    # Image 64x64 = 16 KiB; a panel of 2 vectors = 64*8*4 = 2 KiB; a cache of 4 KiB holds a panel
    # and a row block, but not the image: 64 columns are 8 panels, so the image comes 8 times.
    target = _target(l1=4096.0)
    sent = _bytes(64, 64, 64, Tile("lanes", 4, 2, outer="n"), target, 1e9)
    image, weights, written = 64 * 64 * 4, 64 * 64 * 4, 64 * 64 * 4
    # Panels of 32 bytes: the second half of each line is written after the whole output passed.
    assert sent["L2"] == 8 * image + weights + 2 * written


def test_the_weights_are_read_once_per_row_block_when_rows_are_outside() -> None:
    target = _target(l1=4096.0)
    sent = _bytes(64, 64, 64, Tile("lanes", 4, 2, outer="m"), target, 1e9)
    image, weights, written = 64 * 64 * 4, 64 * 64 * 4, 64 * 64 * 4
    assert sent["L2"] == image + 16 * weights + written


def test_a_level_that_fits_both_operands_asks_once_whatever_the_order() -> None:
    for outer in ("m", "n"):
        tile = Tile("lanes", 4, 2, outer="m" if outer == "m" else "n")
        sent = _bytes(64, 64, 64, tile, _target(), 1e9)
        assert sent["DRAM"] == 64 * 64 * 4, "weights of a large model, once"


def test_threads_that_share_rows_each_read_all_weights() -> None:
    target = _target(cores=2)
    one = _bytes(64, 64, 64, Tile("lanes", 4, 2, split="m"), target, 1e9)
    two = _bytes(64, 64, 64, Tile("lanes", 4, 2, split="m", threads=2), target, 1e9)
    by_columns = _bytes(64, 64, 64, Tile("lanes", 4, 2, split="n", threads=2), target, 1e9)
    weights = 64 * 64 * 4
    assert two["L2"] == pytest.approx(2 * weights)
    assert by_columns["DRAM"] == weights
    assert one["L2"] >= weights


def test_a_convolution_reads_its_halo_again_only_when_its_rows_do_not_stay() -> None:
    job = job_of(only_region(conv(32, 16, 4, 3)))
    assert job is not None
    tile = Tile("lanes", 4, 1, outer="n")

    def image_bytes(l1: float) -> float:
        target = _target(l1=l1, l2=2e6)
        sent = traffic(job, tile, blocks_of(job, tile, target), target, 1e9)
        weights = 3 * 3 * 16 * 4 * 4
        return sent["L2"] - weights - job.activation_bytes[-1]

    assert job.image_bytes == 32 * 32 * 16 * 4
    assert image_bytes(l1=12000.0) == job.image_bytes, "three rows of 2 KiB and the weights stay"
    # Window, weights and a row of outputs are 8,960 bytes: 0.72 of what was read comes twice more.
    assert image_bytes(l1=7000.0) == pytest.approx(1.56 * job.image_bytes, rel=0.01)


def test_the_resident_share_falls_from_all_to_none() -> None:
    assert resident_share(100, 100) == 1
    assert resident_share(150, 100) == 0.5
    assert resident_share(200, 100) == 0
    assert resident_share(1e9, 100) == 0


def _depthwise(size: int, channels: int, kernel: int) -> Job:
    pad = kernel // 2
    image = f"float[1,{channels},{size},{size}]"
    model = fused(
        f"g ({image} x, float[{channels},1,{kernel},{kernel}] w) => ({image} y)"
        f" {{ y = Conv<group={channels}, pads=[{pad},{pad},{pad},{pad}]>(x, w) }}"
    )
    job = job_of(only_region(model))
    assert job is not None
    return job


def test_a_depthwise_window_reads_each_row_once_per_kernel_row_where_they_do_not_stay() -> None:
    # 112 x 112 x 96 floats: three rows are 129 KB. A strip of 8 outputs and the weights stay.
    job, target = _depthwise(112, 96, 3), _target(l1=32768.0, l2=1e9)
    sent = traffic(job, Tile("lanes", 1, 1), None, target, 1e5)
    image = 112 * 112 * 96 * 4
    assert sent["L2"] == pytest.approx(3 * image + image, rel=0.01)
    assert sent["DRAM"] == 0


def test_a_wide_depthwise_strip_also_reads_its_columns_and_weights_again() -> None:
    # What cachegrind counts of this kernel is 146,168 lines of 64 bytes per call.
    job = _depthwise(28, 240, 5)
    target = load_target("generic-x86-avx2")
    sent = traffic(job, Tile("avx2", 1, 1), None, target, job.alone_bytes)
    assert sent["L2"] / 64 == pytest.approx(146_168, rel=0.02)


def test_a_line_that_two_panels_share_is_written_twice() -> None:
    # What cachegrind counts of this kernel, 3 vectors of 8 lanes per panel, is 204,872 lines.
    job = job_of(only_region(conv(56, 64, 256, 1)))
    assert job is not None
    target = load_target("generic-x86-avx2")
    tile = Tile("avx2", 4, 3, outer="n")
    sent = traffic(job, tile, blocks_of(job, tile, target), target, job.alone_bytes)
    assert sent["L2"] / 64 == pytest.approx(204_872, rel=0.02)


def test_a_stride_wider_than_the_kernel_leaves_pixels_out() -> None:
    whole, strided = (job_of(only_region(conv(56, 64, 64, 1, stride))) for stride in (1, 2))
    assert whole is not None
    assert strided is not None
    assert strided.image_bytes == whole.image_bytes // 4


def test_cold_weights_come_from_main_memory_and_steady_ones_do_not() -> None:
    job = job_of(only_region(matmul(8, 64, 64)))
    assert job is not None
    target, tile = _target(), Tile("lanes", 4, 2)
    blocks = blocks_of(job, tile, target)
    steady = traffic(job, tile, blocks, target, job.alone_bytes)
    cold = traffic(job, tile, blocks, target, math.inf)
    assert cold["DRAM"] - steady["DRAM"] == job.weight_bytes
