"""Softmax and normalizations are one launch with what is around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.cuda.lowering.building import build
from tests.backends.tvm.lowering.compiling import calibration_rows, parse
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc

_BODIES = {
    "softmax": "y = Softmax(x)",
    "log_softmax": "r = Relu(x) y = LogSoftmax<axis = 2>(r)",
    "layer_norm": "s = Add(x, z) n = LayerNormalization<epsilon = 0.01>(s, v, w) y = Tanh(n)",
}


@pytest.mark.parametrize("name", sorted(_BODIES))
@pytest.mark.parametrize("size", [30, 197])
def test_rows_are_one_launch(name: str, size: int, tmp_path: Path) -> None:
    text = f"""
        g (float[2,7,{size}] x, float[2,7,{size}] z) => (float[2,7,{size}] y)
        <float[{size}] v, float[{size}] w> {{ {_BODIES[name]} }}"""
    report, kernels = build(parse(text), tmp_path / "out", None)
    assert report.verify.code_ran == "on-cpu"
    assert len(kernels) == 1
    assert kernels[0].startswith(f"rows_{name}_")


@pytest.mark.parametrize("precision", ["bf16", "int8"])
def test_rows_between_products_are_stored_as_those_read_them(
    precision: str, tmp_path: Path
) -> None:
    text = """
        g (float[6,40] x) => (float[6,24] y)
        <float[40,32] p, float[32,24] q, float[32] v, float[32] w> {
            a = MatMul(x, p)
            n = LayerNormalization(a, v, w)
            y = MatMul(n, q)
        }"""
    model = parse(text)
    calib = calibration_rows(model) if precision == "int8" else None
    report, kernels = build(model, tmp_path / "out", precision, calib)
    assert report.verify.code_ran == "on-cpu"
    assert sum(name.startswith("rows_layer_norm_") for name in kernels) == 1


@pytest.mark.parametrize(("shape", "axis"), [("6,4", 1), ("4,40,6", 1), ("2,3000", 1)])
def test_other_rows_are_right_all_the_same(shape: str, axis: int, tmp_path: Path) -> None:
    text = f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Softmax<axis = {axis}>(x) }}"
    report, kernels = build(parse(text), tmp_path / "out", None)
    assert report.verify.code_ran == "on-cpu"
    assert not any(name.startswith("rows_") for name in kernels)
