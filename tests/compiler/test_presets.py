from __future__ import annotations

import numpy as np
import pytest

import gcompile
from gcompile import ir, testing
from gcompile.compiler.formats import parse_preset
from gcompile.errors import UsageError
from gcompile.passes.precision import EqualizeLayers, Preset, Rounding, SmoothActivations

UNEVEN = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[1,16] x) => (float[1,8] y) <float[8,16] w, float[8] b, float[8,8] v> {
        m = Gemm<transB = 1>(x, w, b)
        r = Relu(m)
        y = Gemm(r, v)
    }"""


def uneven_model() -> ir.Model:
    """A model whose middle channels differ in size by factors of a hundred."""
    rng = np.random.default_rng(0)
    sizes = np.geomspace(0.1, 10.0, 8)
    arrays = {
        "w": rng.normal(size=(8, 16)) * sizes[:, None],
        "b": rng.normal(size=8) * sizes,
        "v": rng.normal(size=(8, 8)) / sizes[:, None],
    }
    text = UNEVEN
    for name, array in arrays.items():
        numbers = ", ".join(repr(float(number)) for number in array.reshape(-1))
        shape = ",".join(map(str, array.shape))
        text = text.replace(f"float[{shape}] {name}", f"float[{shape}] {name} = {{{numbers}}}")
    return ir.parse(text)


def error(preset: str) -> tuple[float, list[str]]:
    """Noise over signal on rows that were not calibrated on, and the passes that changed."""
    rng = np.random.default_rng(1)
    compiled = gcompile.compile(
        uneven_model(),
        calib={"x": rng.normal(size=(64, 16)).astype(np.float32)},
        precision="int8",
        quantization=preset,
        cache=False,
    )
    model, unseen = uneven_model(), rng.normal(size=(64, 1, 16)).astype(np.float32)
    expected = np.concatenate([testing.run(model, {"x": row})["y"] for row in unseen])
    got = np.concatenate([compiled.artifact.run({"x": row})["y"] for row in unseen])
    changed = [entry.name for entry in compiled.report.passes if entry.changed]
    return float(((got - expected) ** 2).mean() / expected.var()), changed


def test_the_best_preset_scales_channels_where_they_are_uneven() -> None:
    fast, quick_passes = error("fast")
    best, passes = error("best")
    assert best < 0.5 * fast
    scaling = {EqualizeLayers.name, SmoothActivations.name}
    assert scaling & set(passes)
    assert not scaling & set(quick_passes)


def test_presets_try_more_and_more() -> None:
    tried = [len(p.calibrations) + len(p.preparations) for p in Preset]
    assert tried == sorted(tried)
    assert [p.rounding for p in Preset] == [Rounding.NEAREST, Rounding.NEAREST, Rounding.GRAM]


def test_an_unknown_preset_is_refused_with_those_there_are() -> None:
    with pytest.raises(UsageError, match="Known are: fast, balanced, best"):
        parse_preset("slow")
