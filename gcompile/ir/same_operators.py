"""Models of newer opsets whose operators are those of an older one, but for types they also take.

ONNX's converter refuses many of them; they only need another number.
"""

from __future__ import annotations

import onnx
import onnx_ir
from onnx.defs import OpSchema, SchemaError

from gcompile.ir.walk import all_nodes


def are_same(model: onnx_ir.Model, version: int, older: int) -> bool:
    """Whether every standard operator means the same in opset `older`, types aside.

    Types that the older opset does not know are found when the model is inferred. The rule that
    sizes of pools follow since opset 22 must have been settled before.
    """
    return all(
        _is_same(node, version, older)
        for node in all_nodes(model)
        if node.domain in ("", "ai.onnx")
    )


def _is_same(node: onnx_ir.Node, version: int, older: int) -> bool:
    try:
        new, old = (onnx.defs.get_schema(node.op_type, v, "") for v in (version, older))
    except SchemaError:
        return False
    if node.op_type == "Mod" and not node.attributes.get_int("fmod", False):
        return bool(new.since_version == old.since_version)  # Opset 28 divides floats, too.
    used = set(node.attributes)
    return used <= set(old.attributes) and _operands(new) == _operands(old)


def _operands(schema: OpSchema) -> tuple[list[str], list[str]]:
    return [value.name for value in schema.inputs], [value.name for value in schema.outputs]
