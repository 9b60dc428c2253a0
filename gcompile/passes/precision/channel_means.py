"""What products read on average, if each channel were the same everywhere in an image.

Other quantizers correct biases by running each product on an image of the means of its channels
(the fast bias correction of NNCF). At the borders of images, and where strides skip positions,
that is not what weights meet on average (`input_means` counts that exactly): the correction then
moves biases by more than quantization did. On some tasks the moved model does better, which rows
with labels can tell.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.precision.affine import Affine
from gcompile.passes.precision.input_means import Reals, shares_met
from gcompile.passes.precision.run_rows import batches, run_rows

_PIECE = 8
"""Inferences run together: whole activations are returned."""


def observe_channel_means(
    model: ir.Model, products: Sequence[str], calibration: Arrays, run: Runner
) -> dict[str, Reals]:
    """The mean of each input channel of products, over rows and positions: (channels,).

    Args:
        model: The float model.
        products: Names of nodes of its main graph.
        calibration: Rows to run the model on.
        run: Runs a model on rows.
    """
    nodes = {str(node.name): node for node in model.graph}
    values = {name: _input_of(nodes[name]) for name in products}
    given = [str(value.name) for value in model.graph.inputs]
    wanted = list(dict.fromkeys(str(value.name) for value in values.values()))
    computed = [name for name in wanted if name not in given]
    piece_model = ir.extract(model, given, computed) if computed else None
    sums: dict[str, list[Reals]] = {name: [] for name in products}
    for piece in batches(calibration, model, _PIECE):
        found = dict(piece)
        if piece_model is not None:
            found |= run_rows(piece_model, piece, run, model)
        for name in products:
            sums[name].append(_mean(found[str(values[name].name)], nodes[name]))
    return {name: np.mean(each, axis=0) for name, each in sums.items()}


def met_by_weights(node: ir.Node, means: Reals, mapping: Affine) -> Reals:
    """What each weight meets on an image of the means, rounded: (groups, depth)."""
    rounded = mapping.round_trip(means)
    shape = ir.contraction_of(node)
    if node.op_type != "Conv" or shape is None:
        return rounded.reshape(1, -1)
    down, along = shares_met(shape)
    rank = len(ir.static_shape(_input_of(node)))
    share = np.outer(down.sum(axis=1), along.sum(axis=1)) if rank == 4 else along.sum(axis=1)
    groups = node.attributes.get_int("group", 1)
    met: NDArray[np.float64] = np.multiply.outer(rounded, share.astype(np.float64))
    return met.reshape(groups, -1)


def _mean(array: NDArray[np.generic], node: ir.Node) -> Reals:
    values = np.asarray(array, np.float64)
    channel = 1 if node.op_type == "Conv" else values.ndim - 1
    return np.asarray(values.mean(axis=tuple(a for a in range(values.ndim) if a != channel)))


def _input_of(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value
