"""Chains are computed some rows at a time, and give what computing whole images gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gcompile
from gcompile import ir, testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.compiler import stages
from gcompile.passes import Numerics, Pass, PassContext, Pipeline
from gcompile.passes.tile.apply_winograd import ApplyWinograd
from gcompile.passes.tile.image_layers import image_layer
from gcompile.passes.tile.tile_depth_first import chains_of
from tests.backends.tvm.lowering.compiling import TOLERANCE, calibration_rows, parse

_W = "float[6,3,3,3] w, float[6] b, float[6,1,3,3] d, float[8,6,1,1] p, float[8,8,3,3] s"

MODELS = {
    "windows of three, depthwise, and one pixel": f"""
        g (float[1,3,23,18] x) => (float[1,8,23,18] y) <{_W}> {{
            c = Conv<pads = [1,1,1,1]>(x, w, b)
            r = Relu(c)
            e = Conv<pads = [1,1,1,1], group = 6>(r, d)
            y = Conv(e, p)
        }}""",
    "strides": f"""
        g (float[1,3,41,18] x) => (float[1,8,11,5] y) <{_W}> {{
            c = Conv<pads = [1,1,1,1], strides = [2,2]>(x, w, b)
            e = Conv<pads = [1,1,1,1], group = 6>(c, d)
            f = Conv(e, p)
            y = Conv<pads = [1,1,1,1], strides = [2,2]>(f, s)
        }}""",
    "a stride wider than its window": f"""
        g (float[1,3,24,18] x) => (float[1,8,12,9] y) <{_W}> {{
            c = Conv<pads = [1,1,1,1]>(x, w, b)
            f = Conv<strides = [2,2]>(c, p)
            y = Conv<pads = [1,1,1,1]>(f, s)
        }}""",
    "padding that differs above and below": f"""
        g (float[1,3,20,18] x) => (float[1,8,21,18] y) <{_W}> {{
            c = Conv<pads = [0,1,2,1]>(x, w, b)
            f = Conv(c, p)
            y = Conv<pads = [2,1,1,1]>(f, s)
        }}""",
    "no padding at all": f"""
        g (float[1,3,25,18] x) => (float[1,8,21,14] y) <{_W}> {{
            c = Conv(x, w, b)
            f = Conv(c, p)
            y = Conv(f, s)
        }}""",
    "dilation": f"""
        g (float[1,3,26,18] x) => (float[1,8,26,18] y) <{_W}> {{
            c = Conv<pads = [1,1,1,1]>(x, w, b)
            f = Conv(c, p)
            y = Conv<pads = [2,2,2,2], dilations = [2,2]>(f, s)
        }}""",
    "a branch that is added": f"""
        g (float[1,8,22,18] x) => (float[1,8,22,18] y) <{_W}> {{
            c = Conv<pads = [1,1,1,1]>(x, s)
            r = Relu(c)
            e = Conv<pads = [1,1,1,1]>(r, s)
            f = Conv<pads = [1,1,1,1]>(e, s)
            g = Add(f, r)
            h = Add(g, x)
            y = Conv<pads = [1,1,1,1]>(h, s)
        }}""",
    "pools": f"""
        g (float[1,3,44,18] x) => (float[1,8,11,4] y) <{_W}> {{
            c = Conv<pads = [1,1,1,1]>(x, w, b)
            m = MaxPool<kernel_shape = [3,3], strides = [2,2], pads = [1,1,1,1]>(c)
            f = Conv(m, p)
            y = AveragePool<kernel_shape = [2,2], strides = [2,2]>(f)
        }}""",
    "groups": """
        g (float[1,16,20,18] x) => (float[1,16,20,18] y) <float[16,8,3,3] w, float[16,8,3,3] v> {
            c = Conv<pads = [1,1,1,1], group = 2>(x, w)
            y = Conv<pads = [1,1,1,1], group = 2>(c, v)
        }""",
}


@dataclass(frozen=True)
class ChainAll(Pass):
    """Compute all of a model as one chain."""

    rows: int
    name = "tile-depth-first"
    numerics = Numerics.ROUNDING

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        layers = [layer for r in ir.regions(model.graph) if (layer := image_layer(r)) is not None]
        found = chains_of(layers, self.rows)
        assert found is not None
        for layer, chain in zip(layers, found, strict=True):
            for node in layer.region.nodes:
                ir.set_chain(node, chain)
        return len(layers)


def compiled(
    text: str, rows: int, patch: pytest.MonkeyPatch, precision: str | None = None,
    *, threads: int = 1, winograd: bool = False,
) -> tuple[gcompile.Compiled, dict[str, ir.Array]]:  # fmt: skip
    """Compile with passes of so many rows, none for whole images; and run it."""
    model = parse(text)
    passes: list[Pass] = [ApplyWinograd()] if winograd else []
    patch.setattr(stages, "ALGORITHMS", Pipeline("a", (*passes, *([ChainAll(rows)] * bool(rows)))))
    built = gcompile.compile(
        model,
        precision=precision,
        calib=calibration_rows(model) if precision == "int8" else None,
        threads=threads,
        cache=False,
    )
    assert not built.report.fallbacks
    assert not any("image by image" in note for note in built.report.notes)
    return built, built.artifact.run(testing.example_inputs(model, 1))


@pytest.mark.parametrize("rows", [1, 2, 5])
@pytest.mark.parametrize("name", MODELS)
def test_no_bit_differs_from_whole_images(
    name: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, expected = compiled(MODELS[name], 0, monkeypatch)
    chained, outputs = compiled(MODELS[name], rows, monkeypatch)
    for output, array in expected.items():
        np.testing.assert_array_equal(outputs[output], array)
    given = OnnxRuntime()(parse(MODELS[name]), testing.example_inputs(whole.model, 1))
    testing.assert_close(given, outputs, TOLERANCE)
    assert _peak(chained) < _peak(whole)


def _peak(built: gcompile.Compiled) -> int:
    assert built.report.peak_memory_bytes is not None
    return built.report.peak_memory_bytes


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
@pytest.mark.parametrize(
    "name", ["windows of three, depthwise, and one pixel", "a branch that is added", "pools"]
)
def test_narrow_numbers_stay_the_same_too(
    name: str, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, expected = compiled(MODELS[name], 0, monkeypatch, precision)
    _, outputs = compiled(MODELS[name], 2, monkeypatch, precision)
    for output, array in expected.items():
        np.testing.assert_array_equal(outputs[output], array)


def test_threads_share_the_rows_of_a_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    text = MODELS["a branch that is added"].replace("22,18", "220,180")
    built, outputs = compiled(text, 16, monkeypatch, threads=2)
    tiles = [region.tile for region in ir.regions(built.model.graph)]
    assert {tile.threads for tile in tiles if tile is not None} == {2}
    _, expected = compiled(text, 0, monkeypatch)
    for output, array in expected.items():
        np.testing.assert_array_equal(outputs[output], array)


@pytest.mark.parametrize("rows", [4, 6, 8])
def test_winograd_computes_blocks_of_rows(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
        g (float[1,32,38,36] x) => (float[1,32,38,36] y) <float[32,32,3,3] s> {
            c = Conv<pads = [1,1,1,1]>(x, s)
            r = Relu(c)
            e = Conv<pads = [1,1,1,1]>(r, s)
            y = Conv<pads = [1,1,1,1]>(e, s)
        }"""
    built, outputs = compiled(text, rows, monkeypatch, winograd=True)
    tiles = [region.tile for region in ir.regions(built.model.graph)]
    assert all(tile is not None and tile.winograd for tile in tiles)
    given = OnnxRuntime()(parse(text), testing.example_inputs(built.model, 1))
    testing.assert_close(given, outputs, 1e-4)


def test_what_cannot_be_joined_is_computed_whole_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = parse(MODELS["no padding at all"])
    monkeypatch.setattr(stages, "ALGORITHMS", Pipeline("a", (_TooManyRows(),)))
    built = gcompile.compile(model, cache=False)
    (note,) = [note for note in built.report.notes if "image by image" in note]
    assert "too low" in note
    inputs = testing.example_inputs(model, 1)
    testing.assert_close(OnnxRuntime()(model, inputs), built.artifact.run(inputs), TOLERANCE)


@dataclass(frozen=True)
class _TooManyRows(Pass):
    """A chain that has one pass."""

    name = "tile-depth-first"
    numerics = Numerics.ROUNDING

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        found = ir.regions(model.graph)
        for region in found:
            for node in region.nodes:
                ir.set_chain(node, ir.Chain(found[-1].name, 1000, 0))
        return len(found)
