"""The same model in the terms of other libraries: networkx graphs, onnx-graphsurgeon graphs."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, Literal

import onnx_ir

from gcompile.errors import UsageError
from gcompile.ir.read import prepare
from gcompile.ir.region import regions
from gcompile.ir.walk import all_graphs, all_nodes
from gcompile.ir.write import to_proto


def to_networkx(model: onnx_ir.Model, *, by: Literal["region", "node"] = "region") -> Any:
    """Return a `networkx.DiGraph` of the model: a derived view, for graph algorithms.

    Vertices are names of regions or nodes, of every graph and branch, with attributes `op` and
    `nodes` (the names of the nodes inside). Edges carry `values`: the names of what flows.

    Raises:
        UsageError: networkx is not installed.
    """
    graph = _library("networkx").DiGraph()
    owner: dict[onnx_ir.Node, str] = {}
    for scope in all_graphs(model):
        for region in regions(scope):
            groups = [region.nodes] if by == "region" else [(node,) for node in region.nodes]
            for nodes in groups:
                name = region.name if by == "region" else str(nodes[0].name)
                op = region.op if by == "region" else nodes[0].op_type
                graph.add_node(name, op=op, nodes=tuple(str(node.name) for node in nodes))
                owner.update(dict.fromkeys(nodes, name))
    for node, name in owner.items():
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if value is None or producer is None or owner[producer] == name:
                continue
            known = graph.get_edge_data(owner[producer], name, {"values": ()})["values"]
            if str(value.name) not in known:
                graph.add_edge(owner[producer], name, values=(*known, str(value.name)))
    return graph


def to_graphsurgeon(model: onnx_ir.Model) -> Any:
    """Return an `onnx_graphsurgeon.Graph` of a copy of the model. It holds no metadata.

    Raises:
        UsageError: onnx-graphsurgeon is not installed.
    """
    return _library("onnx_graphsurgeon").import_onnx(to_proto(model))


def from_graphsurgeon(graph: Any, like: onnx_ir.Model | None = None) -> onnx_ir.Model:
    """Make a ready model of an `onnx_graphsurgeon.Graph`.

    Args:
        graph: The graph; it is sorted here.
        like: The model it came from: nodes that kept their name get their metadata back.

    Raises:
        UsageError: onnx-graphsurgeon is not installed.
        InvalidModelError: The graph is not a valid model.
    """
    surgeon = _library("onnx_graphsurgeon")
    model = prepare(onnx_ir.from_proto(surgeon.export_onnx(graph.toposort(), do_type_check=False)))
    if like is not None:
        _restore_metadata(model, like)
    return model


def _restore_metadata(model: onnx_ir.Model, like: onnx_ir.Model) -> None:
    before = {node.name: node for node in all_nodes(like)}
    for node in all_nodes(model):
        source = before.get(node.name)
        if source is not None and source.op_type == node.op_type:
            node.metadata_props.update(source.metadata_props)
    model.metadata_props.update(like.metadata_props)


def _library(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"{name} is not installed. Install it with: pip install 'gcompile[interop]'"
        ) from error
