"""Products of inputs that are quantized when the model runs, against ONNX Runtime."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization import quantize_dynamic

from gcompile import ir
from tests.backends.tvm.lowering.compiling import check, operators, parse

DENSE = """
    g (float[{rows}] x, float[{out}] r) => (float[{out}] y)
    <int8[{depth},{width}] w, float[{scales}] ws, float[{width}] b> {{
        q, s, z = DynamicQuantizeLinear(x)
        sums = MatMulInteger(q, w, z)
        reals = Cast<to = 1>(sums)
        both = Mul(s, ws)
        scaled = Mul(both, reals)
        biased = Add(b, scaled)
        added = Add(biased, r)
        y = Relu(added)
    }}"""


@settings(max_examples=5, deadline=None, derandomize=True)
@given(
    leading=st.lists(st.integers(1, 7), min_size=1, max_size=2),
    depth=st.integers(1, 150),
    width=st.integers(1, 70),
    per_channel=st.booleans(),
    target=st.sampled_from(["cpu", "generic-x86-avx2"]),
    threads=st.integers(1, 2),
)
def test_a_product_with_all_that_follows_is_one_kernel(
    leading: list[int], depth: int, width: int, per_channel: bool, target: str, threads: int
) -> None:
    rows, out = (",".join(map(str, [*leading, last])) for last in (depth, width))
    scales = width if per_channel else 1
    rng = np.random.default_rng(depth)
    constants: dict[str, ir.Array] = {
        "w": rng.integers(-127, 128, (depth, width)).astype(np.int8),
        "ws": rng.uniform(0.001, 0.02, scales).astype(np.float32),
    }
    text = DENSE.format(rows=rows, out=out, depth=depth, width=width, scales=scales)
    built = check(parse(text, constants=constants), target=target, threads=threads)
    assert built.report.fallbacks == {}
    quantize, product = operators(built.model)
    assert quantize == "DynamicQuantizeLinear"
    assert product in ("MatMul+Add+Add+Relu", "Gemm+Add+Relu")


def test_a_quantized_tensor_with_its_scale_leaves_the_model_exactly() -> None:
    built = check(
        "g (float[3,7,5] x) => (uint8[3,7,5] q, float s, uint8 z)"
        " { q, s, z = DynamicQuantizeLinear(x) }",
        tolerance=0.0,
    )
    assert built.report.fallbacks == {}


@pytest.mark.parametrize("per_channel", [False, True])
def test_what_onnx_runtime_quantizes_runs_on_our_kernels(
    per_channel: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    sizes = [24, 40, 40, 9]
    layers = "".join(
        f" m{i} = MatMul(h{i}, w{i})\n a{i} = Add(m{i}, b{i})\n h{i + 1} = Gelu(a{i})\n"
        for i in range(3)
    )
    declared = ", ".join(
        f"float[{a},{b}] w{i}, float[{b}] b{i}" for i, (a, b) in enumerate(pairwise(sizes))
    )
    constants = {
        f"w{i}": rng.standard_normal(pair).astype(np.float32) / 5
        for i, pair in enumerate(pairwise(sizes))
    }
    text = f"g (float[6,24] h0) => (float[6,9] h3) <{declared}> {{ {layers} }}"
    onnx.save(ir.to_proto(parse(text, constants=constants)), tmp_path / "model.onnx")
    quantize_dynamic(tmp_path / "model.onnx", tmp_path / "int8.onnx", per_channel=per_channel)
    built = check(ir.load(tmp_path / "int8.onnx"))
    assert built.report.fallbacks == {}
    assert operators(built.model).count("DynamicQuantizeLinear") == 3
