"""Short-time Fourier transforms that do not say how many sides they return.

The operator's default is one side; ONNX's shape inference takes it for two.
"""

from __future__ import annotations

import onnx_ir

from gcompile.ir.walk import all_nodes


def say_sides(model: onnx_ir.Model) -> None:
    """Write the default down, in place."""
    for node in all_nodes(model):
        if node.op_type == "STFT" and not node.domain and "onesided" not in node.attributes:
            node.attributes["onesided"] = onnx_ir.AttrInt64("onesided", 1)
