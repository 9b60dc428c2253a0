"""Operators that write as many elements as their values say, into a buffer of the largest size.

They have a domain of their own. Each is a function of ONNX's operator, so that any runtime can run
a model that has them: what ONNX's operator gives, zeros up to `bound`, and the count.
"""

from __future__ import annotations

import onnx
import onnx_ir

BOUNDED = "gcompile.bounded"
"""The domain of such operators."""

_OPSET = 21
_HEADER = f'<domain: "{BOUNDED}", opset_import: ["" : {_OPSET}]>'


def _filled(found: str, result: str, count: str, axis: int = 0) -> str:
    """Statements that fill up `found` along an axis, and count what is in it."""
    return f"""
    {count} = Shape <start: int = {axis}, end: int = {axis + 1}> ({found})
    {result}_bound = Constant <value_ints: ints = @bound> ()
    {result}_missing = Sub ({result}_bound, {count})
    {result}_zero = Constant <value_ints: ints = [0]> ()
    {result}_pads = Concat <axis: int = 0> ({result}_zero, {result}_missing)
    {result}_axis = Constant <value_ints: ints = [{axis}]> ()
    {result} = Pad ({found}, {result}_pads, , {result}_axis)
    """


_BODIES = {
    "NonZero": f"""NonZero <bound> (x) => (places, count) {{
        found = NonZero (x)
        {_filled("found", "places", "count", axis=1)} }}""",
    "NonMaxSuppression": f"""NonMaxSuppression <bound, center_point_box>
        (boxes, scores, most, overlap, least) => (picked, count) {{
        found = NonMaxSuppression <center_point_box: int = @center_point_box>
            (boxes, scores, most, overlap, least)
        {_filled("found", "picked", "count")} }}""",
    "Unique": f"""Unique <bound, sorted> (x) => (values, first, inverse, repeats, count) {{
        found, at, inverse, times = Unique <sorted: int = @sorted> (x)
        {_filled("found", "values", "count")}
        {_filled("at", "first", "count_first")}
        {_filled("times", "repeats", "count_repeats")} }}""",
    "UniqueRows": f"""UniqueRows <bound, sorted>
        (x) => (values, first, inverse, repeats, count) {{
        found, at, inverse, times = Unique <axis: int = 0, sorted: int = @sorted> (x)
        {_filled("found", "values", "count")}
        {_filled("at", "first", "count_first")}
        {_filled("times", "repeats", "count_repeats")} }}""",
}


def define(model: onnx_ir.Model) -> None:
    """Let a model that has these operators say what they mean."""
    if all(node.domain != BOUNDED for node in model.graph):
        return
    for text in _BODIES.values():
        function = onnx_ir.from_proto(onnx.parser.parse_function(f"{_HEADER} {text}"))
        model.functions[function.identifier()] = function


def forget(model: onnx_ir.Model) -> None:
    """Leave out what the model says of them: nodes are to stay as they are."""
    for key in [key for key in model.functions if key[0] == BOUNDED]:
        del model.functions[key]


def infer_bounded(graph: onnx_ir.Graph) -> bool:
    """Give the outputs of such nodes shapes and types; return whether any was new."""
    learned = False
    for node in graph:
        if node.domain == BOUNDED:
            learned |= infer_outputs(node)
    return learned


def infer_outputs(node: onnx_ir.Node) -> bool:
    """Give the outputs of such a node shapes and types; return whether any was new."""
    x = node.inputs[0]
    if node.domain != BOUNDED or x is None or x.shape is None or not x.shape.is_static():
        return False
    shape, (bound,) = tuple(x.shape.numpy()), node.attributes.get_ints("bound")
    whole = onnx_ir.DataType.INT64
    results: list[tuple[tuple[int, ...], onnx_ir.DataType]]
    if node.op_type == "NonZero":
        results = [((len(shape), bound), whole)]
    elif node.op_type == "NonMaxSuppression":
        results = [((bound, 3), whole)]
    else:
        rows = shape[1:] if node.op_type == "UniqueRows" else ()
        count = shape[0] if node.op_type == "UniqueRows" else bound
        results = [
            ((bound, *rows), x.dtype or onnx_ir.DataType.FLOAT),
            ((bound,), whole), ((count,), whole), ((bound,), whole),
        ]  # fmt: skip
    learned = False
    for value, (sizes, dtype) in zip(node.outputs, [*results, ((1,), whole)], strict=True):
        known = onnx_ir.Shape(sizes)
        learned |= value.shape != known
        value.shape, value.type = known, onnx_ir.TensorType(dtype)
    return learned
