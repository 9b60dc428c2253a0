"""Where a node came from, kept in metadata that survives saving."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir

from gcompile.ir.place import copy_place

_NODES = "gcompile.origin"
_PASSES = "gcompile.passes"


def origin_of(node: onnx_ir.Node) -> tuple[str, ...]:
    """Return the names of the nodes of the original model this node stands for."""
    listed = node.metadata_props.get(_NODES)
    return tuple(listed.split("\n")) if listed else (str(node.name),)


def add_origin(node: onnx_ir.Node, sources: Iterable[onnx_ir.Node], pass_name: str) -> None:
    """Record that `node` now also stands for `sources`, through the pass named.

    A node without a place in a PyTorch module takes that of the first source.
    """
    names = dict.fromkeys(origin_of(node))
    for source in sources:
        names.update(dict.fromkeys(origin_of(source)))
        copy_place(source, node)
    node.metadata_props[_NODES] = "\n".join(names)
    passes = dict.fromkeys(filter(None, node.metadata_props.get(_PASSES, "").split(",")))
    node.metadata_props[_PASSES] = ",".join(
        [*passes, *([] if pass_name in passes else [pass_name])]
    )
