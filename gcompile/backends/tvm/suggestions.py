"""What to do about a node that cannot be compiled."""

from __future__ import annotations

from gcompile import ir

_OTHER = "replace it with other standard operators, or leave it out of the model"
_BY_VALUES = "leave it to what follows the model: its result has other sizes for other values"
_TENSORS = "export the model with tensors instead: Concat, Split and Gather do the same"
_SIZES = "bind all free dimensions with --shape, so that it becomes a constant"
_INFERENCE = "export the model for inference, in evaluation mode"
_STEPS = "export the model with a fixed number of steps, so that the loop is unrolled"
_OUTPUTS = "remove the outputs after the first one, or leave it out of the model"

_SUGGESTIONS = {
    **dict.fromkeys(("Compress", "NonMaxSuppression", "NonZero", "Unique"), _BY_VALUES),
    **dict.fromkeys(("ConstantOfShape", "Range", "OneHot"), _SIZES),
    **dict.fromkeys(("BatchNormalization", "Dropout"), _INFERENCE),
    **dict.fromkeys(("Loop", "Scan"), _STEPS),
    **dict.fromkeys(("LayerNormalization", "MaxPool"), _OUTPUTS),
    **dict.fromkeys(("RNN", "GRU", "LSTM"), "cast its weights and inputs to float32"),
    "Upsample": "convert the model to a newer opset, where it is Resize",
}
_CONTRIBUTED = frozenset({"com.microsoft", "com.microsoft.nchwc", "com.ms.internal.nhwc"})


def suggestion_for(node: ir.Node) -> str:
    """The remedy for a node, as the end of a sentence."""
    if node.domain in _CONTRIBUTED:
        return "export the model without ONNX Runtime's fusions"
    if node.domain:
        return "replace it with standard operators, or leave it out of the model"
    if "Sequence" in node.op_type or "Optional" in node.op_type:
        return _TENSORS
    return _SUGGESTIONS.get(node.op_type, _OTHER)
