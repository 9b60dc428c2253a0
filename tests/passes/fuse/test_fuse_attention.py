"""Attention becomes one region where scores do not fit the caches, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gcompile import ir
from gcompile.energy import Roofline, estimate
from gcompile.ir.attention import Stored
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


def _tiled(model: ir.Model, target: Target) -> tuple[ir.Model, PassContext]:
    ctx = PassContext(target, Roofline())
    for step in (canonicalize_pipeline(), fuse_pipeline(), TileRegions()):
        step.apply(model, ctx)
    return model, ctx


@pytest.mark.parametrize(("tokens", "fused"), [(20, 0), (2048, 1)])
def test_scores_that_do_not_fit_the_caches_are_never_written(tokens: int, fused: int) -> None:
    target = replace(load_target("amd-epyc-9654"), launch_s=0.0, launch_j=0.0)
    model, ctx = _tiled(_model(tokens), target)
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


_QUANTIZED = """
        g (float[12,{tokens},64] q, float[12,{tokens},64] k, float[12,{tokens},64] v)
            => (float[12,{tokens},64] y)
        <float s, uint8 z, float ws, uint8 wz> {{
            qb = QuantizeLinear(q, s, z)
            kb = QuantizeLinear(k, s, z)
            vb = QuantizeLinear(v, s, z)
            qr = DequantizeLinear(qb, s, z)
            kr = DequantizeLinear(kb, s, z)
            vr = DequantizeLinear(vb, s, z)
            t = Transpose<perm = [0, 2, 1]>(kr)
            p = MatMul(qr, t)
            w = Softmax<axis = -1>(p)
            wb = QuantizeLinear(w, ws, wz)
            wr = DequantizeLinear(wb, ws, wz)
            y = MatMul(wr, vr)
        }}"""


def _quantized(tokens: int) -> ir.Model:
    numbers = {"s": np.float32(0.02), "z": np.uint8(128), "ws": np.float32(1 / 255)}
    constants = {name: np.asarray(number) for name, number in numbers.items()}
    constants["wz"] = np.asarray(np.uint8(0))
    return parse(_QUANTIZED.format(tokens=tokens), constants=constants)


@pytest.mark.parametrize(
    ("name", "tokens", "reason"),
    [
        ("amd-epyc-9654", 16, "scores in memory cost less"),
        ("amd-epyc-9654", 2048, None),
        ("raspberry-pi-4b", 16384, "the scores of a query are more than the cache keeps"),
    ],
)
def test_quantized_scores_of_a_query_have_room_in_the_cache(
    name: str, tokens: int, reason: str | None
) -> None:
    target = replace(load_target(name), launch_s=0.0, launch_j=0.0)
    model, ctx = _tiled(_quantized(tokens), target)
    record = FuseAttention().apply(model, ctx)
    assert record.skipped == ({reason: 1} if reason else {})
    found = [region.attention for region in ir.regions(model.graph) if region.attention]
    assert len(found) == record.changed == (reason is None)
    for attention in found:
        assert attention.weights == Stored(ir.DataType.UINT8, float(np.float32(1 / 255)))
        assert attention.operands[0].stored.zero_point == 128
