"""Small models in ONNX text, with weights that are constants of the right shape and type."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from gcompile import ir

_HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
_STORED = {"bf16": ("bfloat16", 16), "fp16": ("float16", 10)}


def with_constants(text: str) -> ir.Model:
    """Parse ONNX text; inputs whose name starts with `w` become constants full of zeros."""
    model = ir.parse(_HEADER + text)
    for value in [v for v in model.graph.inputs if str(v.name).startswith("w")]:
        model.graph.inputs.remove(value)
        assert value.dtype is not None
        zeros = np.zeros(ir.static_shape(value), value.dtype.numpy())
        value.const_value = ir.tensor(zeros, name=value.name)
        model.graph.register_initializer(value)
    return model


def conv(
    size: int, channels: int, out: int, kernel: int, stride: int = 1, precision: str = "fp32"
) -> ir.Model:
    """A convolution and its relu in one region; int8 has its quantize and dequantize around."""
    pad = kernel // 2
    high = (size + 2 * pad - kernel) // stride + 1
    attrs = f"pads=[{pad},{pad},{pad},{pad}], strides=[{stride},{stride}]"
    image, weight = f"[1,{channels},{size},{size}]", f"[{out},{channels},{kernel},{kernel}]"
    if precision == "int8":
        return fused(
            f"g (uint8{image} x, int8{weight} w, float ws, uint8 wz, int8 wzw)"
            f" => (uint8[1,{out},{high},{high}] y) {{\n"
            "xf = DequantizeLinear(x, ws, wz)\n wf = DequantizeLinear(w, ws, wzw)\n"
            f"c = Conv<{attrs}>(xf, wf)\n r = Relu(c)\n y = QuantizeLinear(r, ws, wz) }}"
        )
    if precision in _STORED:
        kind, code = _STORED[precision]
        return fused(
            f"g ({kind}{image} x, {kind}{weight} w) => ({kind}[1,{out},{high},{high}] y) {{\n"
            "xf = Cast<to=1>(x)\n wf = Cast<to=1>(w)\n"
            f"c = Conv<{attrs}>(xf, wf)\n r = Relu(c)\n y = Cast<to={code}>(r) }}"
        )
    return fused(
        f"g (float{image} x, float{weight} w) => (float[1,{out},{high},{high}] y)"
        f" {{ c = Conv<{attrs}>(x, w)\n y = Relu(c) }}"
    )


def matmul(m: int, k: int, n: int, precision: str = "fp32") -> ir.Model:
    """A product with constant weights."""
    if precision == "int8":
        return fused(
            f"g (uint8[{m},{k}] x, int8[{k},{n}] w, float ws, uint8 wz, int8 wzw)"
            f" => (uint8[{m},{n}] y) {{\n"
            "xf = DequantizeLinear(x, ws, wz)\n wf = DequantizeLinear(w, ws, wzw)\n"
            "c = MatMul(xf, wf)\n y = QuantizeLinear(c, ws, wz) }"
        )
    if precision in _STORED:
        kind, code = _STORED[precision]
        return fused(
            f"g ({kind}[{m},{k}] x, {kind}[{k},{n}] w) => ({kind}[{m},{n}] y) {{\n"
            "xf = Cast<to=1>(x)\n wf = Cast<to=1>(w)\n c = MatMul(xf, wf)\n"
            f"y = Cast<to={code}>(c) }}"
        )
    return fused(
        f"g (float[{m},{k}] x, float[{k},{n}] w) => (float[{m},{n}] y) {{ y = MatMul(x, w) }}"
    )


def mlp(*widths: int, batch: int = 1) -> ir.Model:
    """Dense layers with a relu between them, each layer one region."""
    lines, args, last = [], [], "x"
    for i, (k, n) in enumerate(pairwise(widths)):
        args.append(f"float[{k},{n}] w{i}, float[{n}] wb{i}")
        lines.append(f"h{i} = Gemm({last}, w{i}, wb{i})")
        last = f"h{i}"
        if i < len(widths) - 2:
            lines.append(f"r{i} = Relu(h{i})")
            last = f"r{i}"
    lines[-1] = lines[-1].replace(f"{last} =", "y =")
    text = (
        f"g (float[{batch},{widths[0]}] x, {', '.join(args)}) => (float[{batch},{widths[-1]}] y)"
        f" {{ {chr(10).join(lines)} }}"
    )
    model = with_constants(text)
    layer = -1
    for node in model.graph:
        layer += node.op_type == "Gemm"
        ir.assign_region(node, f"layer{layer}")
    return model


def fused(text: str, name: str = "region") -> ir.Model:
    """Parse the text and make one region of all its nodes."""
    model = with_constants(text)
    for node in model.graph:
        ir.assign_region(node, name)
    return model


def only_region(model: ir.Model) -> ir.Region:
    """The one region of the model."""
    (region,) = ir.regions(model.graph)
    return region
