"""Attention, however it is written, is one launch, and gives what ONNX Runtime gives."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from benchmarks.networks.transformers import bert
from benchmarks.networks.writer import save
from gcompile import ir
from gcompile.backends.cuda.kernels.attention import Attention, Mask
from gcompile.backends.cuda.kernels.attention_program import AttentionProgram
from gcompile.backends.cuda.lowering.attention_anchor import attention_in_arrays
from gcompile.backends.cuda.program.interpret import interpret
from gcompile.ir.attention import Rows
from tests.backends.cuda.lowering.building import build
from tests.backends.tvm.lowering.attention_models import SHARED_KEYS, SHARING, projected
from tests.backends.tvm.lowering.compiling import calibration_rows, parse
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc

_HIDDEN = float(np.finfo(np.float32).min)


def _launches(model: ir.Model, folder: Path) -> list[str]:
    report, kernels = build(model, folder / "out", "bf16")
    assert report.verify.code_ran == "on-cpu"
    assert report.fallbacks == {}
    return kernels


def _is_one_launch(model: ir.Model, folder: Path) -> bool:
    kernels = _launches(model, folder)
    others = [name for name in kernels if "softmax" in name or "matmul" in name]
    return not others and sum(name.startswith("attention_bf16") for name in kernels) == 1


@pytest.mark.parametrize(
    ("precision", "element", "target"),
    [
        ("bf16", "bf16", "nvidia-a100"),
        ("fp16", "f16", "nvidia-a100"),
        ("fp16", "f16", "nvidia-t4"),
    ],
)
def test_bert_has_one_launch_for_attention(
    precision: str, element: str, target: str, tmp_path: Path
) -> None:
    save(bert(1, 128, 24), tmp_path / "bert.onnx")
    model = ir.load(tmp_path / "bert.onnx")
    report, kernels = build(model, tmp_path / "out", precision, target=target)
    assert report.verify.code_ran == "on-cpu"
    assert sum(name.startswith(f"attention_{element}_") for name in kernels) == 1
    products = {name.removesuffix("_add") for name in kernels if name.startswith("gemm_")}
    assert len(products) == 4
    assert all(name.startswith(f"gemm_{element}_") for name in products)
    assert not any("softmax" in name or "transpose" in name for name in kernels)


def test_both_operands_may_be_scaled_and_a_mask_added(tmp_path: Path) -> None:
    """As torch exports scaled_dot_product_attention with a mask that some queries do not pass."""
    body = """
        qs = Mul(q, half)
        kt = Transpose<perm = [0, 1, 3, 2]>(k)
        ks = Mul(kt, half)
        s = MatMul(qs, ks)
        added = Where(seen, zero, never)
        masked = Add(s, added)
        w = Softmax<axis = -1>(masked)
        missing = IsNaN(w)
        kept = Where(missing, zero, w)
        o = MatMul(kept, v)"""
    numbers = {"half": np.float32(0.5), "zero": np.float32(0), "never": np.float32(-np.inf)}
    model = projected(
        body,
        inputs=", bool[2,1,1,20] seen",
        declared=", float half, float zero, float never",
        constants={name: np.asarray(value) for name, value in numbers.items()},
    )
    assert _is_one_launch(model, tmp_path)


def test_a_constant_mask_of_what_comes_later_needs_no_memory(tmp_path: Path) -> None:
    body = """
        kt = Transpose<perm = [0, 1, 3, 2]>(k)
        s = MatMul(q, kt)
        scaled = Div(s, four)
        masked = Add(scaled, ahead)
        w = Softmax<axis = 3>(masked)
        o = MatMul(w, v)"""
    ahead = np.triu(np.full((20, 20), _HIDDEN, np.float32), 1)
    model = projected(
        body,
        declared=", float four, float[20,20] ahead",
        constants={"ahead": ahead, "four": np.asarray(np.float32(4))},
    )
    assert _is_one_launch(model, tmp_path)


def test_heads_that_share_keys_read_them_once(tmp_path: Path) -> None:
    body = f"""{SHARED_KEYS}
        masked = Add(s, added)
        w = Softmax<axis = -1>(masked)
        o = MatMul(w, vr)"""
    model = projected(body, key_heads=2, declared=SHARING, inputs=", float[2,1,20,20] added")
    assert _is_one_launch(model, tmp_path)


def test_sequences_and_heads_may_be_one_axis(tmp_path: Path) -> None:
    """As older exporters write it: batches of matrices, split again where the mask is added."""
    body = """
        qm = Reshape(q, flat)
        km = Reshape(k, flat)
        vm = Reshape(v, flat)
        kt = Transpose<perm = [0, 2, 1]>(km)
        s = MatMul(qm, kt)
        split_s = Reshape(s, four)
        masked = Add(split_s, added)
        flat_s = Reshape(masked, weights)
        w = Softmax<axis = -1>(flat_s)
        m = MatMul(w, vm)
        o = Reshape(m, again)"""
    declared = (
        ", int64[3] flat = {8, 20, 16}, int64[4] four = {2, 4, 20, 20},"
        " int64[3] weights = {8, 20, 20}, int64[4] again = {2, 4, 20, 16}"
    )
    model = projected(body, declared=declared, inputs=", float[2,1,1,20] added")
    assert _is_one_launch(model, tmp_path)


def test_quantized_queries_keys_and_values_are_decoded_in_the_kernel(tmp_path: Path) -> None:
    body = """
        kt = Transpose<perm = [0, 1, 3, 2]>(k)
        s = MatMul(q, kt)
        scaled = Div(s, four)
        w = Softmax<axis = 3>(scaled)
        o = MatMul(w, v)"""
    model = projected(body, declared=", float four", constants={"four": np.asarray(np.float32(4))})
    report, kernels = build(model, tmp_path / "out", "int8", calibration_rows(model))
    assert report.verify.code_ran == "on-cpu"
    assert report.fallbacks == {}
    assert sum(name.startswith("attention_f16") for name in kernels) == 1


@pytest.mark.parametrize(
    "body",
    [
        """kt = Transpose<perm = [0, 1, 3, 2]>(k)
        s = MatMul(q, kt)
        w = Softmax<axis = 2>(s)
        o = MatMul(w, v)""",
        """kt = Transpose<perm = [0, 1, 3, 2]>(k)
        s = MatMul(q, kt)
        g = Sigmoid(s)
        w = Softmax<axis = -1>(g)
        o = MatMul(w, v)""",
        """kt = Transpose<perm = [0, 1, 3, 2]>(k)
        s = MatMul(q, kt)
        w = Softmax<axis = -1>(s)
        m = MatMul(w, v)
        p = Mul(m, m)
        o = Add(p, m)""",
    ],
)
def test_what_only_looks_like_attention_is_right_all_the_same(body: str, tmp_path: Path) -> None:
    report, _ = build(projected(body), tmp_path / "out", "bf16")
    assert report.verify.code_ran == "on-cpu"


def test_weights_that_something_else_reads_stay_in_memory(tmp_path: Path) -> None:
    text = """
        g (float[2,20,16] q, float[2,20,16] k, float[2,20,16] v)
            => (float[2,20,16] y, float[2,20,20] w) {
            kt = Transpose<perm = [0, 2, 1]>(k)
            s = MatMul(q, kt)
            w = Softmax<axis = -1>(s)
            y = MatMul(w, v)
        }"""
    report, kernels = build(parse(text), tmp_path / "out", "bf16")
    assert report.verify.code_ran == "on-cpu"
    assert not any(name.startswith("attention") for name in kernels)


def test_the_form_in_whole_arrays_is_what_the_kernel_does() -> None:
    rows = Rows(40 * 2 * 16, 16, 2 * 16)
    what = Attention(
        "a", "bf16", 2, 2, 1, 40, 50, 16, 0.3, True,
        (rows, Rows(50 * 16, 0, 16), Rows(50 * 16, 0, 16), rows),
        Mask((2, 1, 1, 50)),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    program = AttentionProgram(what).program()
    buffers = [
        rng.standard_normal(b.elements).astype(
            np.float32 if b.storage == "float32" else ml_dtypes.bfloat16
        )
        for b in program.buffers
    ]
    again = [buffer.copy() for buffer in buffers]
    interpret(program, buffers)
    attention_in_arrays(what)(again)
    for exact, found in zip(buffers, again, strict=True):
        np.testing.assert_allclose(found.astype(float), exact.astype(float), atol=2**-7)
