"""A long function that is cut into parts does what it did whole."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import tirx

import gcompile
from gcompile import testing
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.backends.tvm import long_functions, pipeline
from tests.backends.tvm.lowering.compiling import parse

BRANCHED = """
    g (bool choose, float[2,6] x) => (float[2,6] y) {
        t = Tanh(x)
        n = If(choose) <
            then_branch = a () => (float[2,6] o) { o = Sin(t) },
            else_branch = b () => (float[2,6] p) { p = Softmax(x) }
        >
        s = Softmax(n)
        y = Mul(s, t)
    }"""
STEPS = " ".join(f"x{i + 1} = Softmax(x{i})" for i in range(9))
CHAIN = f"g (float[2,6] x0) => (float[2,6] x9, float[2,6] x4) {{ {STEPS} }}"


@pytest.mark.parametrize("text", [CHAIN, BRANCHED], ids=["chain", "branches"])
@pytest.mark.parametrize("most", [1, 3, 7])
def test_parts_compute_what_the_whole_computes(
    text: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = []

    def in_parts(
        name: str, function: tirx.PrimFunc
    ) -> tuple[tirx.PrimFunc, dict[str, tirx.PrimFunc]]:
        whole, parts = long_functions.in_parts(name, function, most)
        cut.append(len(parts))
        return whole, parts

    monkeypatch.setattr(pipeline, "in_parts", in_parts)
    model = parse(text)
    inputs = testing.example_inputs(model, 3)
    expected = OnnxRuntime()(model, inputs)
    found = gcompile.compile(model).artifact.run(inputs)
    assert max(cut) > 1
    for name, array in expected.items():
        np.testing.assert_allclose(found[name].astype(float), array.astype(float), atol=1e-5)
