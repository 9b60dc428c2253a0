"""Why the shape of a value is not known before the model runs."""

from __future__ import annotations

import onnx_ir

from gcompile.ir.place import place_of

NOT_UNROLLED = "gcompile.not_unrolled"
"""Where a Loop or Scan keeps the reason why its rounds are not written out."""

NOT_COUNTED = "gcompile.not_counted"
"""Where a node keeps the reason why it cannot run on a buffer of the largest size."""

_BY_VALUES = "leave it to what follows the model: its result has other sizes for other values"
_KNOWN = {
    **dict.fromkeys(
        ("Compress", "NonMaxSuppression", "NonZero", "Unique"),
        ("gives as many elements as its values say", _BY_VALUES),
    ),
    "ImageDecoder": (
        "decodes a file, whose size only the file says",
        "decode images before the model",
    ),
    "Gradient": (
        "stands for the derivatives of other nodes",
        "export the model for inference, or with the nodes of its gradient",
    ),
}
_UNFUSED = "Export the model without ONNX Runtime's fusions."
_STANDARD = "Replace it with standard operators, or leave it out of the model."
_FIXED = "export the model with a fixed number of steps, so that the loop is unrolled"
_OTHERS = (
    "takes a shape, or part of one, that is computed from data",
    "compute it so that its shape follows from those of the inputs",
)


def why_unknown(value: onnx_ir.Value | None) -> str:
    """The node that makes the shape unknown, why, and what to do about it, as a sentence."""
    name = value.name if value is not None else None
    node = _first_unknown(value)
    if node is None:
        return f"The shape of value {name!r} is not known. Give it with --shape."
    reason, remedy = reason_and_remedy(node)
    place = place_of([node])
    where = f" at {place}" if place else ""
    if node.domain not in ("", "ai.onnx"):
        remedy = _UNFUSED if node.domain == "com.microsoft" else _STANDARD
        return (
            f"The shape of value {name!r} is not known: gcompile has no operator "
            f"{node.domain}.{node.op_type} of this form (node {node.name}{where}). {remedy}"
        )
    return (
        f"The shape of value {name!r} depends on the data, and gcompile needs static shapes: "
        f"{node.op_type} (node {node.name}{where}) {reason}. {remedy[0].upper()}{remedy[1:]}."
    )


def reason_and_remedy(node: onnx_ir.Node) -> tuple[str, str]:
    """Why a shape is unknown after a node that reads known ones, and what to do about it."""
    if NOT_COUNTED in node.metadata_props:
        return node.metadata_props[NOT_COUNTED], _BY_VALUES
    if node.op_type in ("Loop", "Scan"):
        kept = node.metadata_props.get(NOT_UNROLLED, "its rounds are computed")
        return f"stays a loop, because {kept}{_what_grows(node)}", _FIXED
    return _KNOWN.get(node.op_type, _OTHERS)


def _what_grows(node: onnx_ir.Node) -> str:
    """Why a Loop of that kind cannot run round by round, as the end of a sentence."""
    if node.op_type != "Loop":
        return ""
    if len(node.attributes["body"].as_graph().outputs) > len(node.inputs) - 1:
        return ", and it collects a result of each round"
    return ", and the shape of its state changes from round to round"


def _first_unknown(value: onnx_ir.Value | None) -> onnx_ir.Node | None:
    """Follow unknown shapes back to the node that reads only known ones."""
    seen: set[onnx_ir.Node] = set()
    node = value.producer() if value is not None else None
    while node is not None and node not in seen:
        seen.add(node)
        before = [
            producer
            for source in node.inputs
            if source is not None and not _is_static(source)
            if (producer := source.producer()) is not None
        ]
        if not before:
            return node
        node = before[0]
    return node


def _is_static(value: onnx_ir.Value) -> bool:
    return value.shape is not None and value.shape.is_static()
