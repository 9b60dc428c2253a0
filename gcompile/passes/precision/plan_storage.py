"""Decide which values are stored narrow once some regions compute in a narrow format.

A product that computes in int8 or bfloat16 wants its input stored that way. Regions without
products on the way (pools, reshapes, additions) follow, so that the value before them is stored
narrow too and every border in between moves fewer bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from gcompile import ir
from gcompile.passes.precision.eligibility import is_quantizable

MOVES = frozenset(
    {"MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Concat",
     "Pad", "Identity", "GlobalMaxPool"}
)  # fmt: skip
"""Operators whose output elements are input elements: input and output share one scale."""

POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"})
"""Operators that reduce windows of an image."""

FOLLOWERS = MOVES | POOLS | {"Add", "Relu", "Clip"}
"""Operators that read and write narrow values when their neighbours do."""

ELEMENTWISE = frozenset(
    {"Add", "Sub", "Mul", "Div", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid",
     "HardSwish", "Tanh", "Erf", "Gelu", "Elu", "Selu", "Softplus", "Mish", "Exp", "Log", "Sqrt",
     "Abs", "Neg", "Max", "Min", "Pow", "Sum"}
)  # fmt: skip
"""Operators whose kernels convert what they read and write on the way."""


@dataclass
class StoragePlan:
    """Values to store narrow, and the regions that read and write nothing else.

    Attributes:
        products: Names of the regions whose products become narrow.
        followers: Names of the regions that follow.
        values: What is stored narrow, in the order it was found.
    """

    products: set[str]
    followers: set[str] = field(default_factory=set)
    values: dict[ir.Value, None] = field(default_factory=dict)

    def covers(self, region: ir.Region) -> bool:
        """Say whether the region reads narrow values itself."""
        return region.name in self.products or region.name in self.followers


def plan_storage(model: ir.Model, products: Iterable[ir.Region]) -> StoragePlan:
    """Plan for the product regions given; fewer regions never need more values."""
    all_regions = ir.regions(model.graph)
    region_of = {node: region for region in all_regions for node in region.nodes}
    chosen = list(products)
    plan = StoragePlan({region.name for region in chosen})
    for region in chosen:
        for value in _operands(region):
            _add(value, plan, region_of)
    while _add_residuals(chosen, plan, region_of):
        pass
    return plan


def shared_scales(model: ir.Model, plan: StoragePlan) -> list[list[ir.Value]]:
    """Group the values that must share one scale because a follower only moves elements."""
    parent = {value: value for value in plan.values}

    def root(value: ir.Value) -> ir.Value:
        while parent[value] is not value:
            value = parent[value]
        return value

    for region in ir.regions(model.graph):
        if region.name in plan.followers and is_move(region):
            ends = [v for v in (*_data_inputs(region), *region.outputs) if v in parent]
            for value in ends[1:]:
                parent[root(value)] = root(ends[0])
    groups: dict[ir.Value, list[ir.Value]] = {}
    for value in plan.values:
        groups.setdefault(root(value), []).append(value)
    return list(groups.values())


def is_move(region: ir.Region) -> bool:
    """Say whether the region's output elements all are elements of its inputs, or zero."""
    skipped = ("DequantizeLinear", "QuantizeLinear")
    return all(n.op_type in MOVES or n.op_type in skipped for n in region.nodes)


def _operands(region: ir.Region) -> list[ir.Value]:
    """What is computed of a product's operands, where it lies in memory."""
    if region.batched_product is not None:
        return [region.batched_product.left.stored, region.batched_product.right.stored]
    first = region.anchor.inputs[0] if region.anchor is not None else None
    return [first] if first is not None else []


def _add(value: ir.Value, plan: StoragePlan, region_of: dict[ir.Node, ir.Region]) -> None:
    """Store the value narrow, and let the regions before it follow."""
    pending = [value]
    while pending:
        value = pending.pop()
        if value in plan.values or not is_quantizable(value):
            continue
        plan.values[value] = None
        producer = value.producer()
        region = region_of.get(producer) if producer is not None else None
        if region is not None and _can_follow(region):
            plan.followers.add(region.name)
            pending.extend(_data_inputs(region))


def _add_residuals(
    chosen: list[ir.Region], plan: StoragePlan, region_of: dict[ir.Node, ir.Region]
) -> bool:
    """Store what chosen regions add to their product narrow, where nobody else minds."""
    count = len(plan.values)
    for region in chosen:
        shape = ir.static_shape(region.nodes[-1].outputs[0])
        for value in region.inputs:
            if value in plan.values or not is_quantizable(value) or value.is_graph_output():
                continue
            readers = [region_of.get(use.node) for use in value.uses()]
            content = all(reader is not None and plan.covers(reader) for reader in readers)
            if content and ir.static_shape(value) == shape:
                _add(value, plan, region_of)
    return len(plan.values) > count


def _can_follow(region: ir.Region) -> bool:
    if any(node.domain or node.op_type not in FOLLOWERS for node in region.nodes):
        return False
    named = [value for value in region.nodes[-1].outputs if value.name]
    if len(region.outputs) != 1 or len(named) != 1 or region.outputs[0].is_graph_output():
        return False
    inputs = _data_inputs(region)
    return (
        bool(inputs)
        and all(is_quantizable(v) for v in inputs)
        and all(_keeps_zero(node) for node in region.nodes)
    )


def _data_inputs(region: ir.Region) -> list[ir.Value]:
    return [value for value in region.inputs if value.const_value is None]


def _keeps_zero(node: ir.Node) -> bool:
    """Padding and means are only followed in the forms that integer kernels have."""
    if node.op_type == "Pad":
        fill = ir.constant_array(node.inputs[2]) if len(node.inputs) > 2 else None
        has_fill = len(node.inputs) > 2 and node.inputs[2] is not None
        constant = node.attributes.get_string("mode", "constant") == "constant"
        return constant and (not has_fill or (fill is not None and not np.any(fill)))
    if node.op_type == "ReduceMean":
        axes = ir.constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
        rank = len(ir.static_shape(node.inputs[0]))
        return axes is not None and sorted(int(a) % rank for a in axes.reshape(-1)) == list(
            range(2, rank)
        )
    return True
