"""Write a pass: replace x / c by x * (1 / c), since division is slow everywhere.

As a plug-in, from this folder (a module's name cannot start with a digit, so copy it first):
    cp 02_write_a_pass.py multiply_pass.py
    PYTHONPATH=. gcompile passes --plugin multiply_pass
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gcompile import NodePass, Numerics, PassContext, Skip, ir
from gcompile.testing import check_pass

BEFORE = """
<ir_version: 10, opset_import: ["" : 21]>
graph (float[2, 3] x) => (float[2, 3] y, float[2, 3] z)
<float[1] c = {3.0}>
{
    y = Div (x, c)
    z = Div (x, y)
}
"""


@dataclass(frozen=True)
class MultiplyByInverse(NodePass):
    """Replace division by a constant with multiplication by its inverse."""

    name = "multiply-by-inverse"
    numerics = Numerics.ROUNDING
    ops = frozenset({"Div"})

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        """Rewrite one Div, or say why not: the report shows the reason."""
        divisor = ir.constant_array(node.inputs[1])
        if divisor is None:
            return Skip("the divisor is not a constant")
        if divisor.dtype != np.float32 or not np.all(divisor):
            return Skip("the divisor has no inverse in fp32")
        assert isinstance(node.graph, ir.Graph)
        inverse = np.reciprocal(divisor.astype(np.float32))
        node.replace_input_with(1, ir.add_constant(node.graph, f"{node.name}_inverse", inverse))
        node.op_type = "Mul"
        return None


def main() -> None:
    """Hold the pass to its contract and show what it did."""
    model = ir.parse(BEFORE)
    record = check_pass(MultiplyByInverse(), model)
    print(ir.to_text(model))
    print(f"{record.name}: {record.changed} changed, skipped {dict(record.skipped)}")


if __name__ == "__main__":
    main()
