"""Ensembles of decision trees against ONNX Runtime, which walks them tree by tree."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from gcompile.backends.onnx_backend import GcompileBackend

FEATURES, ROWS = 5, 17


class Trees:
    """Random trees, node by node as the old operators list them."""

    def __init__(self, rng: np.random.Generator, count: int, modes: list[str]) -> None:
        self.rng, self.modes = rng, modes
        self.nodes: dict[str, list[Any]] = {
            key: []
            for key in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids",
                        "falsenodeids", "missing_value_tracks_true")
        }  # fmt: skip
        self.leaves: list[tuple[int, int]] = []
        for tree in range(count):
            self.taken = 0
            self.grow(tree, 0)

    def grow(self, tree: int, level: int) -> int:
        number, self.taken = self.taken, self.taken + 1
        place = len(self.nodes["treeids"])
        is_leaf = level > 0 and (level == 4 or self.rng.random() < 0.3)
        entry = {
            "treeids": tree, "nodeids": number, "featureids": int(self.rng.integers(FEATURES)),
            "values": float(self.rng.integers(-2, 3)) / 2, "truenodeids": 0, "falsenodeids": 0,
            "modes": "LEAF" if is_leaf else str(self.rng.choice(self.modes)),
            "missing_value_tracks_true": int(self.rng.integers(2)),
        }  # fmt: skip
        for key, value in entry.items():
            self.nodes[key].append(value)
        if is_leaf:
            self.leaves.append((tree, number))
        else:
            self.nodes["truenodeids"][place] = self.grow(tree, level + 1)
            self.nodes["falsenodeids"][place] = self.grow(tree, level + 1)
        return number

    def attributes(self, kind: str, ids: list[int], weights: list[float]) -> dict[str, Any]:
        return {
            **{f"nodes_{key}": values for key, values in self.nodes.items()},
            f"{kind}_treeids": [tree for tree, _ in self.leaves],
            f"{kind}_nodeids": [number for _, number in self.leaves],
            f"{kind}_ids": ids,
            f"{kind}_weights": weights,
        }


def agree(operator: str, outputs: list[tuple[str, int]], **attributes: Any) -> None:
    node = helper.make_node(
        operator, ["x"], [name for name, _ in outputs], domain="ai.onnx.ml", **attributes
    )
    graph = helper.make_graph(
        [node], "trees",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [ROWS, FEATURES])],
        [helper.make_tensor_value_info(name, dtype, None) for name, dtype in outputs],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    x = np.random.default_rng(1).integers(-4, 5, (ROWS, FEATURES)).astype(np.float32) / 4
    x[3, 2] = np.nan
    session = onnxruntime.InferenceSession(model.SerializeToString())
    found = GcompileBackend.run_model(model, [x])
    for got, want in zip(found, session.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("how", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("modes", [["BRANCH_LEQ"], ["BRANCH_LT", "BRANCH_GT", "BRANCH_EQ"]])
def test_a_regressor_puts_leaves_together(how: str, modes: list[str]) -> None:
    rng = np.random.default_rng(len(how) + len(modes))
    trees = Trees(rng, 4, modes)
    trees.leaves = [leaf for leaf in trees.leaves for _ in range(2)]  # One for each target.
    count = len(trees.leaves)
    attributes = trees.attributes(
        "target", [0, 1] * (count // 2), rng.standard_normal(count).tolist()
    )
    agree("TreeEnsembleRegressor", [("y", 1)], n_targets=2, aggregate_function=how,
          base_values=[0.5, -1.0], **attributes)  # fmt: skip


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_a_classifier_of_several_classes(transform: str) -> None:
    rng = np.random.default_rng(3)
    trees = Trees(rng, 5, ["BRANCH_LEQ"])
    count = len(trees.leaves)
    attributes = trees.attributes(
        "class", [tree % 3 for tree, _ in trees.leaves], rng.standard_normal(count).tolist()
    )
    agree("TreeEnsembleClassifier", [("label", 7), ("scores", 1)],
          classlabels_int64s=[7, 3, 11], post_transform=transform, **attributes)  # fmt: skip


@pytest.mark.parametrize(
    ("transform", "is_share"), [("NONE", True), ("NONE", False), ("LOGISTIC", False)]
)
def test_of_two_classes_trees_vote_for_one(transform: str, is_share: bool) -> None:
    rng = np.random.default_rng(4)
    trees = Trees(rng, 5, ["BRANCH_LEQ"])
    count = len(trees.leaves)
    votes = rng.random(count) / 5 if is_share else rng.standard_normal(count)
    attributes = trees.attributes("class", [0] * count, votes.tolist())
    agree("TreeEnsembleClassifier", [("label", 7), ("scores", 1)],
          classlabels_int64s=[0, 1], post_transform=transform, **attributes)  # fmt: skip
