"""Values that are stored with a scale and a zero point found when the model runs."""

from __future__ import annotations

import onnx_ir


def dynamic_quantizer(decoder: onnx_ir.Node) -> onnx_ir.Node | None:
    """The DynamicQuantizeLinear that makes all that a DequantizeLinear reads, if one does."""
    if decoder.domain or decoder.op_type != "DequantizeLinear" or len(decoder.inputs) != 3:
        return None
    stored = decoder.inputs[0]
    maker = stored.producer() if stored is not None else None
    if maker is None or maker.domain or maker.op_type != "DynamicQuantizeLinear":
        return None
    is_whole = all(a is b for a, b in zip(decoder.inputs, maker.outputs, strict=True))
    return maker if is_whole else None
