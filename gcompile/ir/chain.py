"""Chains: regions that are computed depth first, some rows of each in turn.

The chain lives in node metadata, like tiles and launches: the model stays plain ONNX.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import onnx_ir

_CHAIN = "gcompile.chain"


@dataclass(frozen=True, slots=True)
class Chain:
    """The part of a region in a chain.

    Attributes:
        name: The chain's: that of its last region.
        rows: Rows of the region's own output that each pass computes.
        window_bytes: What all regions of the chain keep in memory between passes, and touch in
            each: their windows and weights.
        kept_bytes: What the region moves in each pass so that the next one finds it.
    """

    name: str
    rows: int
    window_bytes: int
    kept_bytes: int = 0

    def to_text(self) -> str:
        """Write it as it is kept in a node's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Chain:
        """Read it back from a node's metadata."""
        return cls(**json.loads(text))


def chain_of(node: onnx_ir.Node | None) -> Chain | None:
    """The chain that a node is part of."""
    text = node.metadata_props.get(_CHAIN) if node is not None else None
    return Chain.from_text(text) if text else None


def set_chain(node: onnx_ir.Node, chain: Chain | None) -> None:
    """Put a node into a chain, or take it out."""
    if chain is None:
        node.metadata_props.pop(_CHAIN, None)
    else:
        node.metadata_props[_CHAIN] = chain.to_text()
