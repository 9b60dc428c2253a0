"""Ensembles of decision trees: all trees of all rows walk one level at a time.

A walk is a row of numbers, one for each tree: the node it has come to. Each level reads the
node's feature and threshold, compares, and goes on to one of two nodes; leaves lead to themselves.
This is the tree traversal of Nakandala et al., "A Tensor Compiler for Unified Machine Learning
Prediction Serving", OSDI 2020.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir
from numpy.typing import NDArray

from gcompile.ir.written_out.forest import Forest, forest_of_tables, forest_of_trees
from gcompile.ir.written_out.writer import Writer

_COMPARISONS = {
    "BRANCH_LEQ": "LessOrEqual",
    "BRANCH_LT": "Less",
    "BRANCH_GTE": "GreaterOrEqual",
    "BRANCH_GT": "Greater",
    "BRANCH_EQ": "Equal",
}
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_INT64, _FLOAT = onnx_ir.DataType.INT64, onnx_ir.DataType.FLOAT

Results = Sequence[onnx_ir.Value | None] | None
Floats = NDArray[np.float64]


def tree_ensemble(writer: Writer) -> Results:
    """TreeEnsemble of ai.onnx.ml 5."""
    forest = forest_of_tables(writer.node)
    shape = writer.shape(0)
    if shape is None:
        return None
    how = ("AVERAGE", "SUM", "MIN", "MAX")[writer.integer("aggregate_function", 1)]
    scores = _aggregated(writer, forest, how, writer.input(0), shape)
    transform = _TRANSFORMS[writer.integer("post_transform", 0)]
    if transform not in ("NONE", "SOFTMAX", "LOGISTIC"):
        return None
    return [_transformed(writer, scores, transform)]


def regressor(writer: Writer) -> Results:
    """TreeEnsembleRegressor."""
    forest = forest_of_trees(writer.node, "target", writer.integer("n_targets", 1))
    shape, transform = writer.shape(0), writer.text("post_transform", "NONE")
    if forest is None or shape is None or transform not in ("NONE", "SOFTMAX", "LOGISTIC"):
        return None
    how = writer.text("aggregate_function", "SUM")
    x = writer.cast(writer.input(0), _FLOAT)
    scores = _aggregated(writer, forest, how, x, shape)
    return [_transformed(writer, scores, transform)]


def classifier(writer: Writer) -> Results:
    """TreeEnsembleClassifier of labels that are whole numbers.

    Of two classes, trees may vote for one alone: the other has what is left.
    """
    labels = np.array(writer.node.attributes.get_ints("classlabels_int64s", []), np.int64)
    forest = forest_of_trees(writer.node, "class", len(labels))
    shape, transform = writer.shape(0), writer.text("post_transform", "NONE")
    if forest is None or shape is None or transform not in ("NONE", "SOFTMAX", "LOGISTIC"):
        return None
    x = writer.cast(writer.input(0), _FLOAT)
    scores = _aggregated(writer, forest, "SUM", x, shape)
    voted = set(writer.node.attributes.get_ints("class_ids", []))
    if len(labels) == 2 and len(voted) == 1:
        return _one_of_two(writer, forest, scores, labels, transform)
    best = writer.op("ArgMax", scores, axis=1, keepdims=0)
    label = writer.op("Gather", writer.constant(labels), best)
    return [label, _transformed(writer, scores, transform)]


def _one_of_two(
    writer: Writer, forest: Forest, scores: onnx_ir.Value, labels: NDArray[np.int64],
    transform: str,
) -> Results:  # fmt: skip
    """Votes that are all positive are a probability, and others tell by their sign."""
    (voted,) = set(writer.node.attributes.get_ints("class_ids", []))
    column = writer.op("Gather", scores, writer.constant([voted]), axis=1)
    is_share = bool((forest.weights >= 0).all())
    if is_share and transform != "NONE":
        return None
    limit = writer.number(0.5 if is_share else 0.0, _FLOAT)
    flat = writer.op("Squeeze", column, writer.constant([1]))
    label = writer.op(
        "Where", writer.op("Greater", flat, limit),
        writer.constant(labels[1]), writer.constant(labels[0]),
    )  # fmt: skip
    rest = (
        writer.op("Sub", writer.number(1.0, _FLOAT), column)
        if is_share
        else writer.op("Neg", column)
    )
    return [label, _transformed(writer, writer.op("Concat", rest, column, axis=1), transform)]


def _aggregated(
    writer: Writer, forest: Forest, how: str, x: onnx_ir.Value, shape: Sequence[int]
) -> onnx_ir.Value:
    """The leaves that the trees come to, put together: a column for each target."""
    leaf = _walk(writer, forest, x, shape)
    dtype = x.dtype or writer.dtype(0)
    number = dtype.numpy()
    if how in ("MIN", "MAX"):
        empty = np.inf if how == "MIN" else -np.inf
        table = np.where(forest.votes, forest.weights, empty).astype(number)
        best = _reduced(writer, "ReduceMin" if how == "MIN" else "ReduceMax", table, leaf)
        zero = writer.constant(np.zeros((), number))
        total = writer.op("Where", writer.op("IsInf", best), zero, best)
    else:
        total = _reduced(writer, "ReduceSum", forest.weights.astype(number), leaf)
        if how == "AVERAGE":
            total = writer.op("Div", total, writer.constant(np.array(len(forest.roots), number)))
    return writer.op("Add", total, writer.constant(forest.base.astype(number)))


def _reduced(writer: Writer, operator: str, table: Floats, leaf: onnx_ir.Value) -> onnx_ir.Value:
    rows = writer.op("Gather", writer.constant(table), leaf, axis=0)
    return writer.op(operator, rows, writer.constant([1]), keepdims=0)


def _walk(writer: Writer, forest: Forest, x: onnx_ir.Value, shape: Sequence[int]) -> onnx_ir.Value:
    """The node that each tree ends in, for each row."""
    rows, width = shape
    at = writer.constant(np.broadcast_to(forest.roots, (rows, len(forest.roots))).copy())
    flat = writer.op("Reshape", x, writer.constant([-1]))
    row = writer.constant(np.arange(rows).reshape(-1, 1) * width)
    feature, yes, no = (
        writer.constant(table) for table in (forest.feature, forest.if_true, forest.if_false)
    )
    limit = writer.constant(forest.limit.astype((x.dtype or _FLOAT).numpy()))
    for _ in range(forest.depth):
        place = writer.op("Add", writer.op("Gather", feature, at), row)
        value = writer.op("Gather", flat, place)
        holds = _holds(writer, forest, value, writer.op("Gather", limit, at), at)
        at = writer.op("Where", holds, writer.op("Gather", yes, at), writer.op("Gather", no, at))
    return at


def _holds(
    writer: Writer, forest: Forest, value: onnx_ir.Value, limit: onnx_ir.Value, at: onnx_ir.Value
) -> onnx_ir.Value:
    """Whether the condition of the node holds, by the comparison that the node has."""
    found: onnx_ir.Value | None = None
    for mode in sorted(set(forest.mode)):
        if mode == "BRANCH_MEMBER":
            here = _is_member(writer, forest, value, at)
        elif mode == "BRANCH_NEQ":
            here = writer.op("Not", writer.op("Equal", value, limit))
        else:
            here = writer.op(_COMPARISONS[mode], value, limit)
        if found is None:
            found = here
        else:
            is_mode = writer.constant(np.array([m == mode for m in forest.mode]))
            found = writer.op("Where", writer.op("Gather", is_mode, at), here, found)
    assert found is not None
    if forest.missing_is_true.any():
        missing = writer.op("Gather", writer.constant(forest.missing_is_true), at)
        found = writer.op("Or", found, writer.op("And", writer.op("IsNaN", value), missing))
    return found


def _is_member(
    writer: Writer, forest: Forest, value: onnx_ir.Value, at: onnx_ir.Value
) -> onnx_ir.Value:
    """Whether the value is one of the node's; sets are filled up with NaN, which nothing is."""
    dtype = value.dtype or writer.dtype(0)
    members = writer.constant(forest.members.astype(dtype.numpy()))
    each = writer.op("Unsqueeze", value, writer.constant([2]))
    equal = writer.op("Equal", writer.op("Gather", members, at, axis=0), each)
    hits = writer.op("ReduceMax", writer.cast(equal, _FLOAT), writer.constant([2]), keepdims=0)
    return writer.op("Greater", hits, writer.number(0.5, _FLOAT))


def _transformed(writer: Writer, scores: onnx_ir.Value, transform: str) -> onnx_ir.Value:
    if transform == "SOFTMAX":
        return writer.op("Softmax", scores, axis=1)
    return writer.op("Sigmoid", scores) if transform == "LOGISTIC" else scores


RULES = {
    "TreeEnsemble": tree_ensemble,
    "TreeEnsembleRegressor": regressor,
    "TreeEnsembleClassifier": classifier,
}
