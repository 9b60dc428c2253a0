"""Attention becomes one region where scores do not fit the caches, and only there."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gcompile import ir
from gcompile.energy import Roofline, estimate
from gcompile.passes import PassContext
from gcompile.passes.fuse.fuse_attention import FuseAttention
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.passes.tile.tile_regions import TileRegions
from gcompile.targets import Target, load_target
from tests.backends.tvm.lowering.compiling import parse


def _model(tokens: int) -> ir.Model:
    return parse(f"""
        g (float[12,{tokens},64] q, float[12,{tokens},64] k, float[12,{tokens},64] v)
            => (float[12,{tokens},64] y) {{
            t = Transpose<perm = [0, 2, 1]>(k)
            s = MatMul(q, t)
            w = Softmax<axis = -1>(s)
            y = MatMul(w, v)
        }}""")


def _tiled(tokens: int, target: Target) -> tuple[ir.Model, PassContext]:
    model, ctx = _model(tokens), PassContext(target, Roofline())
    for step in (canonicalize_pipeline(), fuse_pipeline(), TileRegions()):
        step.apply(model, ctx)
    return model, ctx


@pytest.mark.parametrize(("tokens", "fused"), [(20, 0), (2048, 1)])
def test_scores_that_do_not_fit_the_caches_are_never_written(tokens: int, fused: int) -> None:
    target = replace(load_target("amd-epyc-9654"), launch_s=0.0, launch_j=0.0)
    model, ctx = _tiled(tokens, target)
    before = estimate(model, ctx.target, ctx.energy, 1).total
    tiles = [region.tile for region in ir.regions(model.graph)]
    record = FuseAttention().apply(model, ctx)
    assert record.changed == fused
    assert len(ir.regions(model.graph)) == (1 if fused else 3)
    if fused:
        assert record.after.total.energy_j < before.energy_j
    else:
        assert [region.tile for region in ir.regions(model.graph)] == tiles
        assert record.skipped == {"scores in memory cost less": 1}
