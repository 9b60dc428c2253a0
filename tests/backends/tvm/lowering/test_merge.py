"""Small kernels that start together compute what they compute alone."""

from __future__ import annotations

import numpy as np
import pytest

import gcompile
from gcompile import ir, testing
from gcompile.backends.tvm.lowering.graph import lower_model
from gcompile.compiler import stages
from gcompile.energy import Roofline
from gcompile.passes import PassContext, Pipeline
from gcompile.passes.fuse.merge_launches import MergeLaunches
from gcompile.passes.pipelines import fuse_pipeline
from gcompile.passes.tile.apply_winograd import ApplyWinograd
from gcompile.passes.tile.tile_regions import TileRegions
from gcompile.targets import load_target
from tests.backends.tvm.lowering.compiling import calibration_rows, parse

MODELS = {
    "a chain": """
        g (float[1,3,8,8] x) => (float[1,5] y)
        <float[6,3,3,3] w, float[6,6,3,3] v, float[96,5] u> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            r = Relu(c)
            p = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1], strides = [2,2]>(r)
            d = Conv<pads = [1,1,1,1]>(p, v)
            s = Add(d, p)
            f = Flatten(s)
            y = Gemm(f, u)
        }""",
    "values that leave in between": """
        g (float[1,3,6,6] x) => (float[1,6,6,6] c, float[1,6] m, float[1,6,6,6] y)
        <float[6,3,3,3] w, float[6,6,3,3] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            p = GlobalAveragePool(c)
            m = Flatten(p)
            d = Conv<pads = [1,1,1,1]>(c, v)
            t = Tanh(c)
            y = Add(d, t)
        }""",
    "a fallback in between": """
        g (float[1,3,6,6] x) => (float[1,4,6,6] y)
        <float[6,3,3,3] w, float[6,6,3,3] v, float[4,6,1,1] u,
         int64 axis = {2}> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            d = Conv<pads = [1,1,1,1]>(c, v)
            s = CumSum(d, axis)
            t = Tanh(s)
            y = Conv(t, u)
        }""",
    "branches": """
        g (bool choose, float[1,3,6,6] x) => (float[1,6,6,6] y)
        <float[6,3,3,3] w, float[6,6,3,3] v> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            t = Tanh(c)
            n = If(choose) <
                then_branch = a () => (float[1,6,6,6] o) {
                    d = Conv<pads = [1,1,1,1]>(t, v)
                    r = Relu(d)
                    o = Conv<pads = [1,1,1,1]>(r, v)
                },
                else_branch = b () => (float[1,6,6,6] o) { o = Add(t, c) }
            >
            e = Conv<pads = [1,1,1,1]>(n, v)
            y = Add(e, n)
        }""",
}


def _outputs(model: ir.Model, precision: str | None) -> tuple[dict[str, ir.Array], set[str]]:
    calib = calibration_rows(model) if precision == "int8" else None
    built = gcompile.compile(model, precision=precision, calib=calib)
    regions = (region for graph in ir.all_graphs(built.model) for region in ir.regions(graph))
    outputs = built.artifact.run(testing.example_inputs(model, 7))
    return outputs, {region.launch for region in regions}


@pytest.mark.parametrize(
    ("name", "precision"), [*((name, None) for name in MODELS), ("a chain", "int8")]
)
def test_starting_together_changes_no_bit(
    name: str, precision: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = parse(MODELS[name])
    together, few = _outputs(model, precision)
    alone = Pipeline("regions", (fuse_pipeline(), TileRegions(), MergeLaunches(most=1)))
    monkeypatch.setattr(stages, "REGIONS", alone)
    quick = Pipeline("algorithms", (ApplyWinograd(), MergeLaunches(most=1)))
    monkeypatch.setattr(stages, "ALGORITHMS", quick)
    apart, many = _outputs(model, precision)
    assert len(few) < len(many)
    for output, expected in apart.items():
        np.testing.assert_array_equal(together[output], expected)


def test_a_launch_holds_a_bounded_number_of_regions() -> None:
    lines = "".join(f" v{i + 1} = Conv(v{i}, w)" for i in range(20))
    text = f"g (float[1,4,2,2] v0) => (float[1,4,2,2] v20) <float[4,4,1,1] w> {{{lines} }}"
    built = gcompile.compile(parse(text))
    launches = [region.launch for region in ir.regions(built.model.graph)]
    assert len(launches) == 20
    assert max(launches.count(name) for name in launches) == MergeLaunches().most


def test_equal_runs_share_one_function() -> None:
    lines = "".join(f" v{i + 1} = Conv(v{i}, w)" for i in range(32))
    text = f"g (float[1,4,2,2] v0) => (float[1,4,2,2] v32) <float[4,4,1,1] w> {{{lines} }}"
    model = parse(text)
    stages.REGIONS.apply(model, PassContext(load_target("x86-64-v3"), Roofline()))
    module = lower_model(model, 256, 1 << 20).module
    launches = [v for v, f in module.functions_items() if "launch" in v.name_hint]
    # The first begins with the image as it is given, those between are alike.
    assert 1 < len(launches) < 4


def test_convolutions_by_winograd_start_alone() -> None:
    model = parse("""
        g (float[1,16,16,16] x) => (float[1,16,16,16] y) <float[16,16,3,3] w> {
            c = Conv<pads = [1,1,1,1]>(x, w)
            d = Conv<pads = [1,1,1,1]>(c, w)
            y = Conv<pads = [1,1,1,1]>(d, w)
        }""")
    ctx = PassContext(load_target("x86-64-v3"), Roofline())
    stages.REGIONS.apply(model, ctx)
    every = MergeLaunches(worth=1e9)
    every.apply(model, ctx)
    assert len({region.launch for region in ir.regions(model.graph)}) == 1
    Pipeline("algorithms", (ApplyWinograd(), every)).apply(model, ctx)
    regions = ir.regions(model.graph)
    assert all(region.tile is not None and region.tile.winograd for region in regions)
    assert all(region.launch == region.name for region in regions)
