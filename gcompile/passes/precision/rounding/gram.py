"""Second moments of what products read: all that a layer's squared error depends on.

With weights V in place of W, a product errs on inputs z by

    sum |W·z - V·z|^2  =  tr((V - W)·G·(V - W)'),    G = sum z·z'

so that G, of the size of one layer's depth, stands for any number of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.precision.ranges.histogram import expose
from gcompile.passes.precision.run_rows import batches, run_rows

Reals = NDArray[np.float64]

_INFERENCES = 256
_LEAST_POSITIONS, _POSITIONS_PER_DEPTH = 4096, 4


def collect_grams(
    model: ir.Model,
    products: Mapping[str, ir.Node],
    calibration: Arrays,
    run: Runner,
    seed: int = 0,
) -> dict[str, Reals]:
    """The mean of z·z' over the inputs z of each product named: (groups, depth, depth).

    Args:
        model: Where the products see what they will see, with all else quantized.
        products: Nodes of the main graph to observe, by the names that results are to have.
        calibration: Rows to run the model on.
        run: Runs a model on rows.
        seed: Of the choice of pixels: a few thousand of a layer's stand for all.
    """
    inputs = {name: str(_input(node).name) for name, node in products.items()}
    watched = expose(model, list(inputs.values()))
    pieces = list(batches(next(batches(calibration, model, _INFERENCES)), model))
    rng = np.random.default_rng(seed)
    windows = {name: Windows.of(node) for name, node in products.items()}
    sums = {name: np.zeros((w.groups, w.depth, w.depth)) for name, w in windows.items()}
    counts = dict.fromkeys(products, 0)
    for piece in pieces:
        values = {**piece, **run_rows(watched, piece, run)}
        for name, window in windows.items():
            share = -(-window.enough // len(pieces))
            picked = window.pick(values[inputs[name]], share, rng)
            rows = window.rows(values[inputs[name]], picked)
            sums[name] += rows.transpose(0, 2, 1) @ rows
            counts[name] += rows.shape[1]
    return {name: sums[name] / counts[name] for name in products}


@dataclass(frozen=True)
class Windows:
    """Cuts the inputs of a product into the rows that it multiplies with its weights."""

    shape: ir.Contraction
    is_image: bool

    @classmethod
    def of(cls, node: ir.Node) -> Windows:
        """The windows of a convolution, or the rows of a matrix product."""
        shape = ir.contraction_of(node)
        assert shape is not None
        return cls(shape, node.op_type == "Conv")

    @property
    def groups(self) -> int:
        return self.shape.groups

    @property
    def depth(self) -> int:
        return self.shape.k

    @property
    def enough(self) -> int:
        """How many rows are looked at."""
        return max(_LEAST_POSITIONS, _POSITIONS_PER_DEPTH * self.depth)

    def pick(
        self, x: NDArray[np.generic], share: int, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        """Draw `share` of the rows of a piece, or all where there are fewer."""
        if self.is_image:
            total = len(x) * self.shape.out_h * self.shape.out_w
        else:
            total = x.size // self.shape.in_c
        if total <= share:
            return np.arange(total)
        return np.sort(rng.choice(total, share, replace=False))

    def rows(self, x: NDArray[np.generic], picked: NDArray[np.int64]) -> Reals:
        """The rows picked, of shape (groups, rows, depth), in the order of the weights."""
        shape, real = self.shape, x.astype(np.float64)
        if not self.is_image:
            return real.reshape(1, -1, shape.in_c)[:, picked]
        image = real.reshape(len(real), shape.in_c, shape.in_h, shape.in_w)
        padded = np.pad(
            image,
            ((0, 0), (0, 0), (shape.pad_top, shape.pad_bottom), (shape.pad_left, shape.pad_right)),
        )
        n, place = np.divmod(picked, shape.out_h * shape.out_w)
        row, column = np.divmod(place, shape.out_w)
        down = row[:, None] * shape.stride_h + np.arange(shape.kernel_h) * shape.dilation_h
        along = column[:, None] * shape.stride_w + np.arange(shape.kernel_w) * shape.dilation_w
        cut = padded[n[:, None, None], :, down[:, :, None], along[:, None, :]]
        ordered = cut.transpose(0, 3, 1, 2).reshape(len(picked), self.groups, self.depth)
        return np.ascontiguousarray(ordered.transpose(1, 0, 2))


def _input(anchor: ir.Node) -> ir.Value:
    value = anchor.inputs[0]
    assert value is not None
    return value
