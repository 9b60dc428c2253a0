"""Transforms that do not say how many sides they return."""

from __future__ import annotations

import numpy as np

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime

HEADER = '<ir_version: 10, opset_import: ["" : 17]>\n'


def test_a_transform_of_one_side_is_the_default() -> None:
    """Signals of two axes are real: exporters write those, too."""
    model = ir.parse(
        HEADER
        + """g (float[1,32] x) => (float[1,f,b,2] y) <int64 step = {8}, float[8] window =
        {0, 1, 2, 3, 3, 2, 1, 0}> { y = STFT(x, step, window) }"""
    )
    assert ir.static_shape(model.graph.outputs[0]) == (1, 4, 5, 2)
    x = np.random.default_rng(0).standard_normal((1, 32)).astype(np.float32)
    got = OnnxRuntime()(model, {"x": x})["y"].astype(np.float64)
    window = np.array([0, 1, 2, 3, 3, 2, 1, 0])
    frames = np.stack([np.fft.rfft(x[0, i : i + 8] * window) for i in range(0, 32, 8)][:4])
    np.testing.assert_allclose(got[0], np.stack([frames.real, frames.imag], -1), atol=1e-4)
