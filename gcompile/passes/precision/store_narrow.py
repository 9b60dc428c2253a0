"""Insert the conversions that store a value narrow: one after its producer, one per reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from gcompile import ir
from gcompile.ir.region import ANCHORS
from gcompile.passes.precision.plan_storage import ELEMENTWISE, POOLS, StoragePlan

_CONVERSIONS = frozenset({"DequantizeLinear", "QuantizeLinear", "Cast"})

Convert = Callable[[ir.Value], ir.Node]
"""Makes the node that converts a value; it has one unnamed output without a shape."""


@dataclass
class NarrowWriter:
    """Writes conversions into one graph, region by region.

    Attributes:
        encode_dtype: The type a value is stored in.
        pass_name: Who is recorded as the origin of the nodes inserted.
    """

    model: ir.Model
    plan: StoragePlan
    encode_dtype: ir.DataType
    pass_name: str
    region_of: dict[ir.Node, ir.Region] = field(init=False)

    def __post_init__(self) -> None:
        self.region_of = {n: r for r in ir.regions(self.model.graph) for n in r.nodes}
        self.names = Names(self.model)

    def store(self, value: ir.Value, encode: Convert, decode: Convert) -> ir.Value:
        """Convert `value` once where it is made and back at each reader; return what is stored.

        Graph outputs, branches and kernels that cannot convert what they read keep reading the
        value itself; then the conversion is a region of its own.
        """
        uses = list(value.uses())
        narrow = [use for use in uses if self._reads_narrow(use.node, value)]
        stays = value.is_graph_output() or len(narrow) != len(uses)
        stored = self._insert_encode(value, encode, stays)
        decoders: dict[ir.Node, ir.Value] = {}
        for use in narrow:
            if use.node not in decoders:
                decoders[use.node] = self._insert_decode(decode(stored), value, use.node)
            use.node.replace_input_with(use.idx, decoders[use.node])
        return stored

    def decode_constant(self, decode: ir.Node, constant: ir.Value, reader: ir.Node) -> None:
        """Let `reader` read its constant operand through `decode`, inside its region."""
        decoded = self._insert_decode(decode, constant, reader)
        for index, value in enumerate(reader.inputs):
            if value is constant:
                reader.replace_input_with(index, decoded)

    def round_operand(
        self, operand: ir.Value, encode: Convert, decode: Convert, reader: ir.Node
    ) -> None:
        """Let `reader` read an operand that it computes itself rounded to the stored type."""
        rounding = self._finish(encode(operand), operand, "rounded", self.encode_dtype)
        self.model.graph.insert_before(reader, rounding)
        self._join(rounding, self.region_of[reader])
        ir.add_origin(rounding, [reader], self.pass_name)
        self.decode_constant(decode(rounding.outputs[0]), operand, reader)

    def _insert_encode(self, value: ir.Value, encode: Convert, stays: bool) -> ir.Value:
        graph, producer = self.model.graph, value.producer()
        node = self._finish(encode(value), value, "stored", self.encode_dtype)
        if producer is None:
            readers = [use.node for use in value.uses() if use.node is not node]
            ir.add_origin(node, readers[:1], self.pass_name)
            graph.insert_before(graph[0], node)
            return node.outputs[0]
        graph.insert_after(producer, node)
        region = self.region_of[producer]
        if not stays and self._writes_narrow(region):
            self._join(node, region)
        ir.add_origin(node, [producer], self.pass_name)
        return node.outputs[0]

    def _insert_decode(self, node: ir.Node, like: ir.Value, reader: ir.Node) -> ir.Value:
        """Insert the decoding node just before its reader, in its region."""
        self._finish(node, like, "decoded", ir.DataType.FLOAT)
        self.model.graph.insert_before(reader, node)
        self._join(node, self.region_of[reader])
        ir.add_origin(node, [reader], self.pass_name)
        return node.outputs[0]

    def _reads_narrow(self, reader: ir.Node, value: ir.Value) -> bool:
        """Say whether the reader's kernel converts this operand by itself."""
        region = self.region_of.get(reader)
        if region is None:
            return False
        if self.plan.covers(region):
            return True
        is_operand = region.anchor is not None and value in region.anchor.inputs
        return not is_operand and _is_simple(region)

    def _writes_narrow(self, region: ir.Region) -> bool:
        return region.anchor is not None or self.plan.covers(region) or _is_simple(region)

    def _join(self, node: ir.Node, region: ir.Region) -> None:
        ir.assign_region(node, region.name)
        self.region_of[node] = region

    def _finish(self, node: ir.Node, like: ir.Value, suffix: str, dtype: ir.DataType) -> ir.Node:
        out = node.outputs[0]
        out.name = self.names.new_value(f"{like.name}_{suffix}")
        out.shape, out.dtype = like.shape, dtype
        node.name = self.names.new_node(f"{out.name}/{node.op_type}")
        return node


class Names:
    """Names no node or value of the model has yet."""

    def __init__(self, model: ir.Model) -> None:
        """Collect the names in use."""
        nodes = list(ir.all_nodes(model))
        self._nodes = {str(node.name) for node in nodes}
        self._values = {str(value.name) for node in nodes for value in node.outputs}
        for graph in ir.all_graphs(model):
            self._values.update(str(value.name) for value in graph.inputs)
            self._values.update(graph.initializers)

    def new_node(self, base: str) -> str:
        """Reserve a node name that starts with `base`."""
        return _reserve(base, self._nodes)

    def new_value(self, base: str) -> str:
        """Reserve a value name that starts with `base`."""
        return _reserve(base, self._values)


def _reserve(base: str, taken: set[str]) -> str:
    name, count = base, 0
    while name in taken:
        count += 1
        name = f"{base}_{count}"
    taken.add(name)
    return name


def _is_simple(region: ir.Region) -> bool:
    known = ELEMENTWISE | POOLS | _CONVERSIONS | ANCHORS
    return all(not node.domain and node.op_type in known for node in region.nodes)
