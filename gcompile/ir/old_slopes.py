"""PRelu before opset 7 has a slope for each channel; since then, slopes are broadcast.

ONNX's converter leaves them as they are: along the last axis instead of the second one.
"""

from __future__ import annotations

import numpy as np
import onnx_ir

from gcompile.ir.constants import add_constant, constant_array
from gcompile.ir.walk import all_graphs

LAST_OPSET = 6
"""The last opset of slopes that belong to channels."""


def spread_old_slopes(model: onnx_ir.Model) -> None:
    """Give constant slopes one axis for each after the channels, in place."""
    for graph in all_graphs(model):
        for node in [node for node in graph if node.op_type == "PRelu" and not node.domain]:
            x, slope = node.inputs[0], constant_array(node.inputs[1])
            if x is None or x.shape is None or slope is None or slope.ndim != 1 or slope.size == 1:
                continue
            column = slope.reshape([-1] + [1] * (len(x.shape) - 2))
            node.replace_input_with(
                1, add_constant(graph, f"{node.name}::slope", np.array(column))
            )
