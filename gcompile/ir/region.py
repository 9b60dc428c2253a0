"""Regions: groups of nodes that run as one kernel, the unit of pricing and of code generation.

The grouping lives in node metadata, so the model stays plain ONNX that any runtime can run. A node
without a region is a region of its own. Only the values of a region's last node leave it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import onnx_ir

from gcompile.ir.attention import (
    WHOLE,
    FoundAttention,
    NotAttentionError,
    attention_of,
)
from gcompile.ir.batched_product import BatchedProduct, batched_product, operand_moves
from gcompile.ir.chain import Chain, chain_of
from gcompile.ir.contraction import Contraction
from gcompile.ir.describe import PRODUCTS, contraction_of
from gcompile.ir.place import Place, place_of
from gcompile.ir.precision import Precision
from gcompile.ir.stored_weights import weight_decoder
from gcompile.ir.tile import Tile

_REGION = "gcompile.region"
_TILE = "gcompile.tile"
_LAUNCH = "gcompile.launch"

ANCHORS = PRODUCTS | {"ConvTranspose"}

_PRECISIONS = {
    onnx_ir.DataType.DOUBLE: Precision.FP64,
    onnx_ir.DataType.FLOAT: Precision.FP32,
    onnx_ir.DataType.FLOAT16: Precision.FP16,
    onnx_ir.DataType.BFLOAT16: Precision.BF16,
    onnx_ir.DataType.INT8: Precision.INT8,
    onnx_ir.DataType.UINT8: Precision.INT8,
}


@dataclass(frozen=True, eq=False)
class Region:
    """Nodes in topological order that run as one kernel."""

    name: str
    nodes: tuple[onnx_ir.Node, ...]

    @cached_property
    def anchor(self) -> onnx_ir.Node | None:
        """The product the region is built around, if any."""
        for node in self.nodes:
            if node.op_type in ANCHORS and not node.domain:
                return node
        return None

    @cached_property
    def inputs(self) -> tuple[onnx_ir.Value, ...]:
        """The values read from outside, constants included, each once, in order of first use."""
        if len(self.nodes) == 1:
            return tuple(dict.fromkeys(v for v in self.nodes[0].inputs if v is not None))
        inside = set(self.nodes)
        read = (v for n in self.nodes for v in n.inputs if v is not None)
        return tuple(dict.fromkeys(v for v in read if v.producer() not in inside))

    @cached_property
    def outputs(self) -> tuple[onnx_ir.Value, ...]:
        """The values that are read outside, or that the graph returns."""
        if len(self.nodes) == 1:
            values = self.nodes[0].outputs
            return tuple(v for v in values if v.is_graph_output() or v.uses())
        inside = set(self.nodes)
        return tuple(
            value
            for node in self.nodes
            for value in node.outputs
            if value.is_graph_output() or any(use.node not in inside for use in value.uses())
        )

    @cached_property
    def op(self) -> str:
        """What the region is called in a report: its operators, joined."""
        hidden = ("DequantizeLinear", "Cast")
        shown = [n.op_type for n in self.nodes if n.op_type not in hidden]
        return "+".join(shown or [self.nodes[0].op_type])

    @cached_property
    def place(self) -> Place | None:
        """Where in a PyTorch module it comes from: that of its product, else of its first node."""
        return place_of((self.anchor, *self.nodes) if self.anchor is not None else self.nodes)

    @cached_property
    def contraction(self) -> Contraction | None:
        """The implicit matrix product of the anchor."""
        return contraction_of(self.anchor) if self.anchor is not None else None

    @cached_property
    def attention(self) -> FoundAttention | None:
        """The attention that the region is as a whole."""
        if self.anchor is None or all(node.op_type != "Softmax" for node in self.nodes):
            return None
        try:
            return attention_of(self, WHOLE)
        except NotAttentionError:
            return None

    @cached_property
    def batched_product(self) -> BatchedProduct | None:
        """The anchor's products of operands that are all computed at run time."""
        if self.attention is not None:
            return None
        return batched_product(self.anchor, self.nodes) if self.anchor is not None else None

    @cached_property
    def precision(self) -> Precision:
        """The format the region computes its products in, or reads when it has none."""
        if self.anchor is not None and self.batched_product is not None:
            left, right = (_stored_precision(v, self) for v in self.anchor.inputs[:2])
            return left if left is right else Precision.FP32
        if self.anchor is not None:
            return _stored_precision(self.anchor.inputs[0], self)
        found = [
            _stored_precision(v, self)
            for v in self.inputs
            if v.const_value is None and v.dtype in _PRECISIONS
        ]
        return max(found, key=lambda p: p.bits, default=Precision.FP32)

    @cached_property
    def weight_decoder(self) -> onnx_ir.Node | None:
        """What decodes the integer weights of the anchor where it multiplies floats with them."""
        if self.anchor is None or self.precision is Precision.INT8:
            return None
        decoder = weight_decoder(self.anchor)
        return decoder if decoder in self.nodes else None

    @property
    def tile(self) -> Tile | None:
        """The blocking that the tile pass chose."""
        holder = self.anchor or self.nodes[0]
        text = holder.metadata_props.get(_TILE)
        return Tile.from_text(text) if text else None

    @property
    def launch(self) -> str:
        """The name of the first region of those that start together; its own when it is alone."""
        return self.nodes[0].metadata_props.get(_LAUNCH) or self.name

    @property
    def chain(self) -> Chain | None:
        """The chain of regions it is computed with, some rows of each in turn."""
        return chain_of(self.nodes[0])


def regions(graph: onnx_ir.Graph) -> list[Region]:
    """Group the nodes of one graph (not its subgraphs) into regions, in an order that can run."""
    groups: dict[str, list[onnx_ir.Node]] = {}
    last: dict[str, int] = {}
    for index, node in enumerate(graph):
        name = node.metadata_props.get(_REGION) or str(node.name)
        groups.setdefault(name, []).append(node)
        last[name] = index
    return [Region(name, tuple(groups[name])) for name in sorted(groups, key=last.__getitem__)]


def assign_region(node: onnx_ir.Node, name: str) -> bool:
    """Put a node into the region called `name`; say whether that changed anything."""
    changed = node.metadata_props.get(_REGION) != name
    node.metadata_props[_REGION] = name
    return changed


def clear_region(node: onnx_ir.Node) -> bool:
    """Make a node a region of its own again; say whether that changed anything."""
    return node.metadata_props.pop(_REGION, None) is not None


def set_tile(region: Region, tile: Tile) -> bool:
    """Keep the tile on the region; say whether it differs from the one before."""
    holder = region.anchor or region.nodes[0]
    text = tile.to_text()
    changed = holder.metadata_props.get(_TILE) != text
    holder.metadata_props[_TILE] = text
    return changed


def clear_tile(region: Region) -> bool:
    """Forget the region's tile; say whether it had one."""
    holder = region.anchor or region.nodes[0]
    return holder.metadata_props.pop(_TILE, None) is not None


def set_launch(region: Region, name: str) -> bool:
    """Let the region start with the one called `name`; say whether that changed anything."""
    node = region.nodes[0]
    changed = region.launch != name
    if name == region.name:
        node.metadata_props.pop(_LAUNCH, None)
    else:
        node.metadata_props[_LAUNCH] = name
    return changed


def _stored_precision(value: onnx_ir.Value | None, region: Region) -> Precision:
    """Look through the decoder and the moves inside the region to how the value is stored."""
    value, _ = operand_moves(value, region.nodes)
    producer = value.producer() if value is not None else None
    through = ("DequantizeLinear", "Cast")
    if producer is not None and producer in region.nodes and producer.op_type in through:
        value = producer.inputs[0]
    dtype = value.dtype if value is not None else None
    return _PRECISIONS.get(dtype or onnx_ir.DataType.FLOAT, Precision.INT32)
