"""The search for tiles: only legal ones, and the ones that measurements favour."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.energy.blocking import column_count, row_count
from gcompile.energy.job import Job
from gcompile.energy.tiling import choose_tile, is_legal, registers_needed, shapes
from gcompile.ir import Contraction, Precision
from gcompile.targets import load_target
from tests.targets.test_detect import detect_recorded

_ZEN5 = detect_recorded("zen5-virtual")
_AMX = load_target("intel-xeon-8490h")
_TARGETS = {
    "zen5": _ZEN5,
    "amx": _AMX,
    "avx2": load_target("generic-x86-avx2"),
    "neon": load_target("raspberry-pi-5"),
}


def _job(contraction: Contraction, precision: Precision = Precision.FP32) -> Job:
    element = precision.bits // 8
    image = contraction.batch * contraction.in_h * contraction.in_w * contraction.in_c * element
    written = contraction.m * contraction.n * element
    return Job(precision, contraction, 2 * contraction.macs, 0, image, (written,), 0)


@st.composite
def contractions(draw: st.DrawFn) -> Contraction:
    """Convolutions and products of all proportions."""
    kernel = draw(st.sampled_from([1, 3, 5]))
    stride = draw(st.sampled_from([1, 2]))
    height, width = draw(st.integers(kernel, 40)), draw(st.integers(kernel, 40))
    pad = draw(st.sampled_from([0, kernel // 2]))
    return Contraction(
        batch=draw(st.integers(1, 3)),
        in_h=height,
        in_w=width,
        in_c=draw(st.sampled_from([1, 3, 16, 24, 200])),
        out_h=(height + 2 * pad - kernel) // stride + 1,
        out_w=(width + 2 * pad - kernel) // stride + 1,
        out_c=draw(st.integers(1, 300)),
        kernel_h=kernel,
        kernel_w=kernel,
        stride_h=stride,
        stride_w=stride,
        pad_top=pad,
        pad_left=pad,
        pad_bottom=pad,
        pad_right=pad,
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    contractions(),
    st.sampled_from(list(_TARGETS)),
    st.sampled_from([Precision.FP32, Precision.BF16, Precision.INT8, Precision.FP16]),
    st.sampled_from([1, 2, 4]),
)
def test_the_chosen_tile_can_be_emitted(
    contraction: Contraction, name: str, precision: Precision, threads: int
) -> None:
    target = _TARGETS[name]
    tile = choose_tile(_job(contraction, precision), target, threads, 1e6)
    unit = target.unit_for(precision)
    assert tile.unit == unit.name
    assert is_legal(tile, contraction, unit)
    assert 1 <= tile.threads <= min(threads, target.cores)
    if unit.kind == "matrix":
        assert tile.rows * tile.columns + min(tile.rows, tile.columns) + 1 <= unit.registers
    else:
        assert registers_needed(tile, unit) <= unit.registers
        assert tile.columns <= column_count(contraction, unit)
    blocks = row_count(contraction, tile, unit) if tile.split == "m" else unit.registers * 99
    assert tile.threads <= blocks


def test_every_register_block_is_looked_at() -> None:
    unit = _ZEN5.unit_for(Precision.FP32)
    blocks = {(t.rows, t.columns) for t in shapes(Contraction.matmul(1000, 64, 1000), unit)}
    assert {(28, 1), (14, 2), (8, 3), (6, 4), (1, 8)} <= blocks
    assert (10, 3) not in blocks, "30 sums, 3 weights and a pixel are 34 registers"
    assert (9, 3) not in blocks, "it has no room for operands that are loaded ahead"


def test_products_of_few_rows_read_few_streams_of_weights() -> None:
    unit = _ZEN5.unit_for(Precision.FP32)
    for rows in (1, 2, 3):
        blocks = [t for t in shapes(Contraction.matmul(rows, 64, 1000), unit) if t.rows == rows]
        assert max(tile.columns for tile in blocks) == 4


def test_blocks_of_a_resnet_layer_fill_the_registers() -> None:
    layer = Contraction(1, 28, 28, 128, 28, 28, 128, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1)
    for precision in (Precision.FP32, Precision.INT8):
        tile = choose_tile(_job(layer, precision), _ZEN5, 1, 4e7)
        assert tile.rows * tile.columns >= 14


def test_large_weights_stay_outside_and_are_read_once() -> None:
    layer = Contraction(1, 7, 7, 512, 7, 7, 512, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1)
    tile = choose_tile(_job(layer), _ZEN5, 2, 4e7)
    assert (tile.outer, tile.split, tile.threads) == ("n", "n", 2)


def test_tile_units_take_the_block_that_fits_the_height() -> None:
    def block(m: int) -> tuple[int, int]:
        tile = choose_tile(_job(Contraction.matmul(m, 256, 256), Precision.INT8), _AMX, 1, 1e6)
        return tile.rows, tile.columns

    assert block(1) == (1, 4)
    assert block(16) == (1, 4)
    assert block(48) == (4, 1)
    assert block(64) == (4, 1)
    assert block(256) == (2, 2)


def test_a_small_kernel_does_not_pay_for_a_parallel_launch() -> None:
    small, large = Contraction.matmul(1, 64, 128), Contraction.matmul(256, 512, 512)
    assert choose_tile(_job(small), _ZEN5, 2, 4e4).threads == 1
    assert choose_tile(_job(large), _ZEN5, 2, 2e6).threads == 2


def test_kernels_without_a_product_get_threads_only() -> None:
    def threads(elements: int) -> int:
        job = Job(Precision.FP32, None, 0, elements, 0, (4 * elements, 4 * elements), 0)
        tile = choose_tile(job, _ZEN5, 2, 1e5)
        assert (tile.unit, tile.rows, tile.columns) == ("avx512", 1, 1)
        return tile.threads

    assert threads(100) == 1
    assert threads(10_000_000) == 2
