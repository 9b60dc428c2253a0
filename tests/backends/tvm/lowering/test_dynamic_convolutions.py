"""Convolutions of images that are quantized when the model runs, against ONNX Runtime."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization import QuantType, quantize_dynamic

from gcompile import ir
from tests.backends.tvm.lowering.compiling import check, operators, parse

LAYER = """
    g (float[2,{inside},9,8] x) => (float[2,{outside},{height},{width}] y)
    <{dtype}[{outside},{depth},{kernel},{kernel}] w, {dtype}[{zeros}] wz, float[{scales}] ws,
     float[1,{outside},1,1] b> {{
        q, s, z = DynamicQuantizeLinear(x)
        sums = ConvInteger<pads = [{pad},{pad},{pad},{pad}], strides = [{stride},{stride}],
                           group = {groups}>(q, w, z, wz)
        reals = Cast<to = 1>(sums)
        both = Mul(s, ws)
        scaled = Mul(reals, both)
        biased = Add(scaled, b)
        y = Relu(biased)
    }}"""


@settings(max_examples=6, deadline=None, derandomize=True)
@given(
    inside=st.integers(1, 40),
    outside=st.integers(1, 40),
    kernel=st.sampled_from([1, 3]),
    pad=st.integers(0, 1),
    stride=st.integers(1, 2),
    is_signed=st.booleans(),
    per_channel=st.booleans(),
    target=st.sampled_from(["cpu", "generic-x86-avx2"]),
)
def test_sums_are_those_of_integers(
    inside: int,
    outside: int,
    kernel: int,
    pad: int,
    stride: int,
    is_signed: bool,
    per_channel: bool,
    target: str,
) -> None:
    rng = np.random.default_rng(inside)
    dtype = np.int8 if is_signed else np.uint8
    low, high = (-127, 128) if is_signed else (0, 256)
    height, width = ((size + 2 * pad - kernel) // stride + 1 for size in (9, 8))
    text = LAYER.format(
        inside=inside, outside=outside, depth=inside, kernel=kernel, pad=pad, stride=stride,
        groups=1, height=height, width=width, dtype=dtype.__name__, zeros="1",
        scales=f"{outside},1,1" if per_channel else "1",
    )  # fmt: skip
    shape = (outside, 1, 1) if per_channel else (1,)
    constants: dict[str, ir.Array] = {
        "w": rng.integers(low, high, (outside, inside, kernel, kernel)).astype(dtype),
        "wz": np.array([0 if is_signed else rng.integers(100, 160)], dtype),
        "ws": rng.uniform(0.001, 0.02, shape).astype(np.float32),
    }
    built = check(parse(text, constants=constants), target=target)
    found = operators(built.model)
    assert not any("Cast" in op for op in found), found
    assert built.report.fallbacks == {}


@pytest.mark.parametrize("groups", [4, 8])
def test_groups_are_convolved_too(groups: int) -> None:
    text = LAYER.format(
        inside=8, outside=8, depth=8 // groups, kernel=3, pad=1, stride=1, groups=groups,
        height=9, width=8, dtype="int8", zeros="1", scales="1",
    )  # fmt: skip
    built = check(parse(text, constants={"wz": np.zeros(1, np.int8)}))
    assert not any("Cast" in op for op in operators(built.model))


def test_what_onnx_runtime_quantizes_runs_on_kernels_of_bytes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sizes = [3, 16, 24]
    layers = "".join(
        f" m{i} = Conv<pads = [1, 1, 1, 1]>(h{i}, w{i}, b{i})\n h{i + 1} = Relu(m{i})\n"
        for i in range(2)
    )
    declared = ", ".join(
        f"float[{b},{a},3,3] w{i}, float[{b}] b{i}" for i, (a, b) in enumerate(pairwise(sizes))
    )
    constants: dict[str, ir.Array] = {
        f"w{i}": rng.standard_normal((b, a, 3, 3)).astype(np.float32) / 9
        for i, (a, b) in enumerate(pairwise(sizes))
    }
    text = f"g (float[1,3,16,16] h0) => (float[1,24,16,16] h2) <{declared}> {{ {layers} }}"
    onnx.save(ir.to_proto(parse(text, constants=constants)), tmp_path / "model.onnx")
    quantize_dynamic(tmp_path / "model.onnx", tmp_path / "int8.onnx", weight_type=QuantType.QUInt8)
    built = check(ir.load(tmp_path / "int8.onnx"))
    found = operators(built.model)
    assert found.count("DynamicQuantizeLinear") == 2, found
    assert built.report.fallbacks == {}
