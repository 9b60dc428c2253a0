"""Operators that have no kernel of ours: TVM's ONNX importer brings them into the module.

A region of such operators becomes one private Relax function. `pipeline.build_module` inlines it
where it is called, so that legalization, fusion and scheduling see through it.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from typing import Any

import numpy as np
import onnx
import onnx.defs
import tvm
import tvm_ffi
from onnx import NodeProto
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx
from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map

from gcompile.errors import CompileError

FALLBACK_ATTRIBUTE = "gcompile.fallback"
"""Marks functions the importer wrote, which may be fused and scheduled, unlike emitted kernels."""

_NOT_IMPORTED = {
    "Attention": "the importer only knows com.microsoft's operator of that name",
    "BitShift": "the importer gives wrong numbers for some shifts",
    "ConstantOfShape": "its shape is data, or too large for a constant; folding removes others",
    "OneHot": "the importer cannot read its depth",
    "Range": "its shape is data, or too large for a constant; folding removes others",
    "SpaceToDepth": "the importer gives wrong numbers",
    "Upsample": "it is deprecated; convert the model to a newer opset, where it is Resize",
    **dict.fromkeys(
        ("Compress", "NonMaxSuppression", "NonZero", "Unique"),
        "the shape of its output depends on values",
    ),
    **dict.fromkeys(
        ("MaxUnpool", "MaxRoiPool", "RoiAlign"),
        "the importer does not agree with the reference",
    ),
    **dict.fromkeys(
        (
            *("Optional", "OptionalGetElement", "OptionalHasElement"),
            *("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase"),
            *("SequenceInsert", "SequenceLength", "ConcatFromSequence", "SplitToSequence"),
        ),
        "sequences and optionals are not tensors",
    ),
}


def supported_operators() -> frozenset[str]:
    """The standard ONNX operators that `add_fallback` can bring in; see `refusal` for nodes."""
    return frozenset(
        operator
        for operator in _get_convert_map()
        if onnx.defs.has(operator) and operator not in _NOT_IMPORTED
    )


def refusal(node: NodeProto) -> str | None:
    """Why this node cannot be brought in, or None if it can.

    Operators are refused that the importer lacks or gets wrong, and the attributes and outputs of
    others that it gets wrong.
    """
    if node.op_type in _NOT_IMPORTED:
        return _NOT_IMPORTED[node.op_type]
    if node.domain not in ("", "ai.onnx") or node.op_type not in supported_operators():
        return "TVM's ONNX importer does not know it"
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
    return _refusal_of_attributes(node, attributes)


def _refusal_of_attributes(node: NodeProto, attributes: Mapping[str, Any]) -> str | None:
    outputs = [name for name in node.output if name]
    match node.op_type:
        case "BatchNormalization" if attributes.get("training_mode", 0) or len(outputs) > 1:
            return "training mode is not compiled"
        case "Dropout" | "LayerNormalization" | "MaxPool" if len(outputs) > 1:
            return "only its first output is computed"
        case "Dropout" if len(node.input) > 2 and node.input[2]:
            return "training mode is not compiled"
        case "Mod" if attributes.get("fmod", 0):
            return "the importer gives wrong numbers for fmod"
        case "IsInf" if not (
            attributes.get("detect_negative", 1) and attributes.get("detect_positive", 1)
        ):
            return "the importer ignores which infinity is asked for"
        case "ConvTranspose" if attributes.get("output_shape"):
            return "the importer ignores output_shape"
        case "RMSNormalization" if attributes.get("axis", -1) == 0:
            return "the importer does not normalize over every axis"
        case "Resize":
            return _refusal_of_resize(attributes)
    return None


def _refusal_of_resize(attributes: Mapping[str, Any]) -> str | None:
    if attributes.get("axes"):
        return "the importer does not know Resize over some axes only"
    if attributes.get("antialias", 0):
        return "the importer does not know Resize with antialiasing"
    if attributes.get("coordinate_transformation_mode") == b"half_pixel_symmetric":
        return "the importer does not know half_pixel_symmetric"
    if attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        return "the importer does not keep the aspect ratio"
    return None


def add_fallback(
    builder: relax.BlockBuilder, proto: onnx.ModelProto, name: str
) -> tvm.ir.GlobalVar:
    """Add a region's nodes to a module as the private function `name`.

    The function takes the graph's inputs in order (initializers are constants, not inputs) and
    returns its output, or a tuple if there are several.

    Args:
        builder: The module under construction.
        proto: The region as a small model with static shapes.
        name: A name for the function; the builder makes it unique.

    Raises:
        CompileError: TVM's importer does not understand the region.
    """
    imported = _imported(proto, name)
    others = {
        variable.name_hint: builder.add_func(
            function.with_attr(FALLBACK_ATTRIBUTE, True).without_attr("global_symbol"),
            f"{name}_{variable.name_hint}",
        )
        for variable, function in imported.functions_items()
        if variable.name_hint != "main"
    }
    main = imported["main"].without_attr("num_input").without_attr("global_symbol")
    if others:
        renamed = (tvm.ir.GlobalVar, lambda variable: others.get(variable.name_hint, variable))
        main = tvm_ffi.structural_map(main, renamed)
    return builder.add_func(main, name)


def _imported(proto: onnx.ModelProto, name: str) -> tvm.IRModule:
    try:
        # The importer warns about every name it changes, and prints what it cannot convert.
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            return from_onnx(_with_shapes_folded(proto), keep_params_in_input=False)
    except Exception as error:  # The importer raises whatever its converters trip over.
        reason = str(error).strip().splitlines() or [repr(error)]
        operators = ", ".join(sorted({node.op_type for node in proto.graph.node}))
        raise CompileError(
            f"TVM cannot import the operators {operators} of {name} ({reason[-1][:200]}); "
            "replace them with standard operators."
        ) from error


def _with_shapes_folded(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Replace Shape nodes by constants: the importer would return no tensor for them."""
    if all(node.op_type != "Shape" for node in proto.graph.node):
        return proto
    folded = onnx.shape_inference.infer_shapes(proto)
    graph = folded.graph
    shapes = {
        item.name: [dimension.dim_value for dimension in item.type.tensor_type.shape.dim]
        for item in (*graph.input, *graph.value_info, *graph.output)
    } | {item.name: list(item.dims) for item in graph.initializer}
    for node in [node for node in graph.node if node.op_type == "Shape"]:
        span = {item.name: item.i for item in node.attribute}
        shape = shapes[node.input[0]][span.get("start", 0) : span.get("end")]
        graph.node.remove(node)
        constant = onnx.numpy_helper.from_array(np.array(shape, "int64"), node.output[0])
        graph.node.insert(0, onnx.helper.make_node("Constant", [], node.output, value=constant))
    return folded
