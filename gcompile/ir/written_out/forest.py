"""Decision trees as tables, from the attributes of ai.onnx.ml in their old and new form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir
from numpy.typing import NDArray

_MEMBER = "BRANCH_MEMBER"
_MODES = (
    "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", _MEMBER,
)  # fmt: skip
_LEAF = "LEAF"


@dataclass(frozen=True)
class Forest:
    """Nodes of all trees in one row; leaves lead to themselves.

    Attributes:
        roots: The first node of each tree.
        feature: Which column of the input a node compares.
        limit: What it compares with.
        mode: How.
        if_true: The next node where the comparison holds.
        missing_is_true: Whether it holds for a number that is missing, NaN.
        weights: What a leaf adds to each target: (nodes, targets).
        votes: Whether a leaf says anything about a target: (nodes, targets).
        base: What each target begins with.
        members: The set of numbers a node looks for, filled up with NaN: (nodes, members).
    """

    roots: NDArray[np.int64]
    feature: NDArray[np.int64]
    limit: NDArray[np.float64]
    mode: tuple[str, ...]
    if_true: NDArray[np.int64]
    if_false: NDArray[np.int64]
    missing_is_true: NDArray[np.bool_]
    weights: NDArray[np.float64]
    votes: NDArray[np.bool_]
    base: NDArray[np.float64]
    members: NDArray[np.float64]

    @property
    def depth(self) -> int:
        """Levels until every walk from a root has come to a leaf.

        A chain that never ends is cut after as many levels as there are nodes.
        """
        at, levels = set(self.roots.tolist()), 0
        own = np.arange(len(self.if_true))
        is_leaf = (self.if_true == own) & (self.if_false == own)
        while levels <= len(own) and not all(is_leaf[node] for node in at):
            at = {int(table[node]) for node in at for table in (self.if_true, self.if_false)}
            levels += 1
        return levels


def forest_of_tables(node: onnx_ir.Node) -> Forest:
    """TreeEnsemble: inner nodes and leaves in tables of their own."""
    ints, tensor = node.attributes.get_ints, node.attributes.get_tensor
    modes = [int(mode) for mode in _array(tensor("nodes_modes"))]
    inner = len(modes)
    leaves = _array(tensor("leaf_weights")).astype(np.float64)
    targets = np.array(ints("leaf_targetids"))
    count, own = node.attributes.get_int("n_targets", 1), np.arange(inner, inner + len(leaves))

    def goes_to(side: str) -> NDArray[np.int64]:
        is_leaf = np.array(ints(f"nodes_{side}leafs"), bool)
        to = np.array(ints(f"nodes_{side}nodeids"), np.int64)
        return np.concatenate([np.where(is_leaf, to + inner, to), own])

    filled = np.zeros(len(leaves), np.int64)
    weights, votes = np.zeros((inner + len(leaves), count)), np.zeros((inner + len(leaves), count))
    weights[own, targets], votes[own, targets] = leaves, 1
    missing = np.array(ints("nodes_missing_value_tracks_true", [0] * inner), bool)
    return Forest(
        roots=np.array(ints("tree_roots"), np.int64),
        feature=np.concatenate([np.array(ints("nodes_featureids"), np.int64), filled]),
        limit=np.concatenate([_array(tensor("nodes_splits")).astype(np.float64), filled]),
        mode=(*(_MODES[mode] for mode in modes), *(_MODES[modes[0]] for _ in own)),
        if_true=goes_to("true"),
        if_false=goes_to("false"),
        missing_is_true=np.concatenate([missing, filled.astype(bool)]),
        weights=weights,
        votes=votes.astype(bool),
        base=np.zeros(count),
        members=_members(node, modes, inner + len(leaves)),
    )


def _members(node: onnx_ir.Node, modes: Sequence[int], count: int) -> NDArray[np.float64]:
    """The sets in the order of the nodes that have one, each ended by NaN."""
    listed = node.attributes.get_tensor("membership_values", None)
    sets: list[list[float]] = [[]]
    for value in _array(listed).reshape(-1).tolist() if listed is not None else []:
        if value != value:
            sets.append([])
        else:
            sets[-1].append(value)
    found = np.full((count, max(map(len, sets)) or 1), np.nan)
    having = [index for index, mode in enumerate(modes) if _MODES[mode] == _MEMBER]
    for index, members in zip(having, sets, strict=False):
        found[index, : len(members)] = members
    return found


def forest_of_trees(node: onnx_ir.Node, kind: str, targets: int) -> Forest | None:
    """TreeEnsembleRegressor and TreeEnsembleClassifier: nodes by the numbers of tree and node.

    Args:
        node: The node.
        kind: What the attributes of leaves begin with: `target` or `class`.
        targets: How many there are; none where classes are strings.
    """
    attributes, ints = node.attributes, node.attributes.get_ints
    if not targets:
        return None
    keys = list(zip(ints("nodes_treeids", []), ints("nodes_nodeids", []), strict=True))
    place = {key: index for index, key in enumerate(keys)}
    modes = [mode if isinstance(mode, str) else mode.decode() for mode in
             attributes.get_strings("nodes_modes", [])]  # fmt: skip
    if not keys or any(mode not in (*_MODES[:-1], _LEAF) for mode in modes):
        return None
    first = next((mode for mode in modes if mode != _LEAF), _MODES[0])

    def goes_to(side: str) -> NDArray[np.int64]:
        to = ints(f"nodes_{side}nodeids", [])
        return np.array(
            [
                index if modes[index] == _LEAF else place[tree, to[index]]
                for index, (tree, _) in enumerate(keys)
            ]
        )

    weights = np.zeros((len(keys), targets))
    votes = np.zeros((len(keys), targets), bool)
    given = zip(
        ints(f"{kind}_treeids", []), ints(f"{kind}_nodeids", []), ints(f"{kind}_ids", []),
        _floats(node, f"{kind}_weights"), strict=True,
    )  # fmt: skip
    for tree, number, target, weight in given:
        weights[place[tree, number], target] += weight
        votes[place[tree, number], target] = True
    base = _floats(node, "base_values")
    roots: dict[int, int] = {}
    for index, (tree, _) in enumerate(keys):
        roots.setdefault(tree, index)
    missing = ints("nodes_missing_value_tracks_true", [])
    return Forest(
        roots=np.array(list(roots.values())),
        feature=np.array(ints("nodes_featureids", [])),
        limit=_floats(node, "nodes_values"),
        mode=tuple(first if mode == _LEAF else mode for mode in modes),
        if_true=goes_to("true"),
        if_false=goes_to("false"),
        missing_is_true=np.array(missing if len(missing) else [0] * len(keys), bool),
        weights=weights,
        votes=votes,
        base=base if len(base) == targets else np.zeros(targets),
        members=np.full((len(keys), 1), np.nan),
    )


def _floats(node: onnx_ir.Node, name: str) -> NDArray[np.float64]:
    """An attribute, as numbers of 32 bits or as a tensor."""
    tensor = node.attributes.get_tensor(f"{name}_as_tensor", None)
    if tensor is not None:
        return _array(tensor).astype(np.float64)
    return np.array(node.attributes.get_floats(name, []), np.float64)


def _array(tensor: onnx_ir.TensorProtocol) -> NDArray[np.generic]:
    return tensor.numpy()
