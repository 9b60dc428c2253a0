from __future__ import annotations

from dataclasses import replace

import pytest

from gcompile import ir
from gcompile.energy import Roofline, estimate
from gcompile.passes import PassContext
from gcompile.passes.fuse.merge_launches import MergeLaunches
from gcompile.passes.pipelines import fuse_pipeline
from gcompile.passes.tile.tile_depth_first import TileDepthFirst
from gcompile.passes.tile.tile_regions import TileRegions
from gcompile.targets import Target, load_target
from tests.backends.tvm.lowering.compiling import parse

TARGET = load_target("intel-xeon-8490h")
_LAYERS = """
    c = Conv<pads = [1,1,1,1]>(x, w)
    d = Relu(c)
    e = Conv<pads = [1,1,1,1], strides = [2,2], group = 8>(d, v)
    f = Conv(e, u)"""
_WEIGHTS = "<float[8,3,3,3] w, float[8,1,3,3] v, float[8,8,1,1] u, float[8,8,3,3] s>"
CHAIN = f"""g (float[1,3,64,64] x) => (float[1,8,32,32] y) {_WEIGHTS} {{ {_LAYERS}
    y = Conv<pads = [1,1,1,1]>(f, s)
}}"""


def with_caches(target: Target, *sizes: float) -> Target:
    """The device with smaller caches, innermost first, so that small images are large ones."""
    caches = zip(target.memories, sizes, strict=False)
    smaller = tuple(replace(memory, size_bytes=size) for memory, size in caches)
    return replace(target, memories=(*smaller, *target.memories[len(sizes) :]))


SMALL = with_caches(TARGET, 4e3, 16e3, 30e3)


def tiled(text: str, target: Target = SMALL) -> tuple[ir.Model, PassContext]:
    model, ctx = parse(text), PassContext(target=target, energy=Roofline())
    fuse_pipeline().apply(model, ctx)
    TileRegions().apply(model, ctx)
    return model, ctx


def chains(model: ir.Model) -> list[str | None]:
    """The chain of every region."""
    found = [region.chain for region in ir.regions(model.graph)]
    return [chain.name if chain is not None else None for chain in found]


def test_what_no_cache_holds_is_computed_depth_first() -> None:
    model, ctx = tiled(CHAIN)
    record = TileDepthFirst().apply(model, ctx)
    assert None not in chains(model)
    assert record.changed == 4
    assert record.after.total == estimate(model, SMALL, Roofline()).total
    before, after = record.before.total, record.after.total
    assert after.energy_j < 0.9 * before.energy_j
    main = SMALL.memories[-1].name
    assert after.movement_j[main] < 0.5 * before.movement_j[main]


def test_what_a_cache_holds_is_computed_image_by_image() -> None:
    model, ctx = tiled(CHAIN, TARGET)
    assert TileDepthFirst().apply(model, ctx).changed == 0
    assert chains(model) == [None] * 4


def test_a_second_run_changes_nothing() -> None:
    model, ctx = tiled(CHAIN)
    TileDepthFirst().apply(model, ctx)
    assert TileDepthFirst().apply(model, ctx).changed == 0


def test_rows_of_a_pass_double_before_a_stride_of_two() -> None:
    model, ctx = tiled(CHAIN)
    TileDepthFirst(most=2).apply(model, ctx)
    first, second, *_ = [region.chain for region in ir.regions(model.graph)]
    assert first is not None
    assert second is not None
    assert first.name == second.name
    assert first.rows == 2 * second.rows


def test_a_chain_has_a_bounded_number_of_regions() -> None:
    model, ctx = tiled(CHAIN)
    TileDepthFirst(most=2).apply(model, ctx)
    found = chains(model)
    assert max(found.count(name) for name in set(found) - {None}) == 2


def test_nothing_is_chained_where_it_does_not_pay() -> None:
    model, ctx = tiled(CHAIN)
    assert TileDepthFirst(worth=0.1).apply(model, ctx).changed == 0


def test_what_is_read_elsewhere_ends_a_chain() -> None:
    model, ctx = tiled(f"""
        g (float[1,3,64,64] x) => (float[1,8,32,32] y, float[1,8,32,32] e) {_WEIGHTS} {{ {_LAYERS}
            y = Conv<pads = [1,1,1,1]>(f, s)
        }}""")
    TileDepthFirst().apply(model, ctx)
    first, second, *rest = chains(model)
    assert first == second is not None
    assert first not in rest


@pytest.mark.parametrize(
    "between",
    [
        "GlobalAveragePool(f)",
        "AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(f)",
        "Transpose<perm = [0,1,3,2]>(f)",
    ],
)
def test_what_needs_more_than_rows_is_in_no_chain(between: str) -> None:
    shape = "[1,8,1,1]" if "Global" in between else "[1,8,32,32]"
    model, ctx = tiled(f"""
        g (float[1,3,64,64] x) => (float{shape} y) {_WEIGHTS} {{ {_LAYERS} y = {between} }}""")
    TileDepthFirst().apply(model, ctx)
    *before, last = chains(model)
    assert last is None
    assert set(before) != {None}


def test_regions_of_a_chain_start_with_no_others() -> None:
    model, ctx = tiled(CHAIN)
    TileDepthFirst().apply(model, ctx)
    MergeLaunches(worth=1e9).apply(model, ctx)
    assert all(region.launch == region.name for region in ir.regions(model.graph))


def test_several_threads_compute_image_by_image() -> None:
    model, ctx = tiled(CHAIN)
    record = TileDepthFirst().apply(model, replace(ctx, threads=2))
    assert record.changed == 0
    assert "threads would wait for each other in every pass" in record.skipped


def test_gpus_compute_image_by_image() -> None:
    model, ctx = tiled(CHAIN, load_target("nvidia-a100"))
    assert TileDepthFirst().apply(model, ctx).changed == 0
