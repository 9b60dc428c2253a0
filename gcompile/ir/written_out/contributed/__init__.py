"""Operators that ONNX Runtime contributes: what its optimizers and quantizers write into models.

They are those of the domain com.microsoft, which ContribOperators.md of ONNX Runtime defines.
What a rule does not know stays, and is refused by name.
"""

import onnx_ir

from gcompile.ir.walk import all_nodes
from gcompile.ir.written_out.contributed import (
    activations,
    attention,
    normalizations,
    products,
    quantized,
    rotary,
    stored,
)

DOMAIN = "com.microsoft"

RULES = {
    **activations.RULES,
    **attention.RULES,
    **normalizations.RULES,
    **products.RULES,
    **quantized.RULES,
    **rotary.RULES,
    **stored.RULES,
}

_WITHOUT_DOMAIN = frozenset({"SimplifiedLayerNormalization"})


def name_contributed(model: onnx_ir.Model) -> None:
    """Put those that ONNX Runtime writes into ONNX's own domain into theirs, in place."""
    for node in all_nodes(model):
        if node.op_type in _WITHOUT_DOMAIN and node.domain in ("", "ai.onnx"):
            node.domain = DOMAIN
            model.opset_imports.setdefault(DOMAIN, 1)
