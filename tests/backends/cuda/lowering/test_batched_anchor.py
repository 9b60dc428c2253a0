"""Products of two computed operands that are no attention run on tensor cores, too."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.backends.cuda.lowering.building import build
from tests.backends.tvm.lowering.compiling import parse
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc

_MODELS = {
    "columns of the right operand are rows": """
        g (float[2,3,20,16] a, float[2,3,24,16] b) => (float[2,3,20,24] y) {
            bt = Transpose<perm = [0, 1, 3, 2]>(b)
            y = MatMul(a, bt)
        }""",
    "the result is scaled, masked and activated": """
        g (float[2,3,20,16] a, float[2,3,16,24] b, float[2,1,1,24] m) => (float[2,3,20,24] y)
        <float c = {0.3}> {
            p = MatMul(a, b)
            s = Mul(p, c)
            t = Add(s, m)
            y = Relu(t)
        }""",
    "heads are put side by side": """
        g (float[2,3,20,16] a, float[2,3,16,24] b) => (float[2,20,3,24] y) {
            p = MatMul(a, b)
            y = Transpose<perm = [0, 2, 1, 3]>(p)
        }""",
    "all share one right operand": """
        g (float[2,3,20,16] a, float[16,24] b) => (float[2,3,20,24] y) {
            c = Relu(b)
            y = MatMul(a, c)
        }""",
    "plain matrices": """
        g (float[50,16] a, float[16,40] b) => (float[50,40] y) {
            y = Gemm(a, b)
        }""",
}


@pytest.mark.parametrize("name", sorted(_MODELS))
def test_two_computed_operands_meet_on_tensor_cores(name: str, tmp_path: Path) -> None:
    report, kernels = build(parse(_MODELS[name]), tmp_path / "out", "bf16")
    assert report.verify.code_ran == "on-cpu"
    assert report.fallbacks == {}
    assert any(kernel.startswith("products_bf16_") for kernel in kernels)


def test_on_a_t4_they_do_in_fp16(tmp_path: Path) -> None:
    model = parse(_MODELS["the result is scaled, masked and activated"])
    report, kernels = build(model, tmp_path / "out", "fp16", target="nvidia-t4")
    assert report.verify.code_ran == "on-cpu"
    assert report.fallbacks == {}
    assert any(kernel.startswith("products_f16_") for kernel in kernels)


def test_matrices_with_odd_rows_say_why_they_are_not(tmp_path: Path) -> None:
    text = """
        g (float[2,20,15] a, float[2,15,24] b) => (float[2,20,24] y) {
            y = MatMul(a, b)
        }"""
    report, kernels = build(parse(text), tmp_path / "out", "bf16")
    assert "multiples of four bytes" in " ".join(report.fallbacks.values())
    assert not any(kernel.startswith("products_") for kernel in kernels)
