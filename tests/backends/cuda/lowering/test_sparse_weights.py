"""Weights of which two in four are zero run on sparse tensor cores where that pays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gcompile import ir
from gcompile.report.text import to_text
from tests.backends.cuda.lowering.building import build
from tests.backends.tvm.lowering.compiling import calibration_rows, parse
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc

_DEPTH, _COLUMNS = 1024, 512


def _model(pruned: bool) -> ir.Model:
    """A product of 256 rows, its weights perhaps pruned along the depth."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((_DEPTH // 4, 4, _COLUMNS)).astype(np.float32) / 32
    if pruned:
        smaller = np.argsort(np.abs(weights), axis=1)[:, :2]
        np.put_along_axis(weights, smaller, 0, 1)
    text = f"""
        g (float[256,{_DEPTH}] x) => (float[256,{_COLUMNS}] y)
        <float[{_DEPTH},{_COLUMNS}] w, float[{_COLUMNS}] b> {{
            p = Gemm(x, w, b)
            y = Relu(p)
        }}"""
    return parse(text, constants={"w": weights.reshape(_DEPTH, _COLUMNS)})


@pytest.mark.parametrize(("precision", "name"), [("bf16", "bf16"), ("fp16", "f16"), ("int8", "")])
def test_pruned_weights_are_stored_without_their_zeros(
    precision: str, name: str, tmp_path: Path
) -> None:
    sizes = []
    for pruned in (False, True):
        model, folder = _model(pruned), tmp_path / str(pruned)
        calib = calibration_rows(model)
        report, kernels = build(model, folder, precision, calib)
        assert report.verify.code_ran == "on-cpu"
        assert any(k.startswith(f"gemm_sparse_{name}") for k in kernels) == pruned
        assert ("with 2:4 weights" in to_text(report)) == pruned
        sizes.append((folder / "weights.bin").stat().st_size)
    assert sizes[1] < 0.66 * sizes[0]
