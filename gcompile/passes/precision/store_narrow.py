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

        Graph outputs and branches keep reading the value itself.
        """
        graph = self.model.graph
        uses = [use for use in value.uses() if use.node in self.region_of]
        stays = value.is_graph_output() or len(uses) != len(tuple(value.uses()))
        stored = self._insert_encode(value, encode, stays)
        converter: ir.Node | None = None
        decoders: dict[ir.Node, ir.Node] = {}
        for use in uses:
            region = self.region_of[use.node]
            if self._reads_narrow(region, value):
                if use.node not in decoders:
                    node = self._finish(decode(stored), value, "decoded", ir.DataType.FLOAT)
                    graph.insert_before(use.node, node)
                    self._join(node, region)
                    ir.add_origin(node, [use.node], self.pass_name)
                    decoders[use.node] = node
                source = decoders[use.node]
            else:
                converter = converter or self._insert_converter(stored, value, decode)
                source = converter
            use.node.replace_input_with(use.idx, source.outputs[0])
        return stored

    def decode_constant(
        self, decode: ir.Node, constant: ir.Value, reader: ir.Node, region: ir.Region
    ) -> None:
        """Let `reader` read its constant operand through `decode`, inside its region."""
        self._finish(decode, constant, "decoded", ir.DataType.FLOAT)
        self.model.graph.insert_before(reader, decode)
        self._join(decode, region)
        ir.add_origin(decode, [reader], self.pass_name)
        for index, value in enumerate(reader.inputs):
            if value is constant:
                reader.replace_input_with(index, decode.outputs[0])

    def _insert_encode(self, value: ir.Value, encode: Convert, stays: bool) -> ir.Value:
        graph, producer = self.model.graph, value.producer()
        node = self._finish(encode(value), value, "stored", self.encode_dtype)
        if producer is None:
            graph.insert_before(graph[0], node)
            return node.outputs[0]
        graph.insert_after(producer, node)
        region = self.region_of[producer]
        if not stays and self._writes_narrow(region):
            self._join(node, region)
        ir.add_origin(node, [producer], self.pass_name)
        return node.outputs[0]

    def _insert_converter(self, stored: ir.Value, value: ir.Value, decode: Convert) -> ir.Node:
        """A region of its own that makes the value wide again, for readers that cannot."""
        encode = stored.producer()
        assert encode is not None
        node = self._finish(decode(stored), value, "decoded", ir.DataType.FLOAT)
        self.model.graph.insert_after(encode, node)
        ir.add_origin(node, [encode], self.pass_name)
        return node

    def _reads_narrow(self, region: ir.Region, value: ir.Value) -> bool:
        """Say whether the region's kernel converts this operand by itself."""
        if self.plan.covers(region):
            return True
        if region.anchor is not None:
            return value not in region.anchor.inputs and _is_simple(region)
        return _is_simple(region)

    def _writes_narrow(self, region: ir.Region) -> bool:
        return region.anchor is not None or self.plan.covers(region) or _is_simple(region)

    def _join(self, node: ir.Node, region: ir.Region) -> None:
        ir.assign_region(node, region.name)
        self.region_of[node] = region

    def _finish(
        self, node: ir.Node, like: ir.Value, suffix: str, dtype: ir.DataType
    ) -> ir.Node:
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
