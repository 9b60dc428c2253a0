"""What products read on average, and how far rounding their inputs moves that.

A product is linear, so the mean of its outputs over rows and positions is its weights times the
mean of what each weight meets: with inputs z, rounded to z', and weights W, rounded to W',

    E[W'·z'] - E[W·z]  =  W'·E[z' - z] + (W' - W)·E[z]

No product need be computed. The weight at offset i of a kernel meets, in output row o, the input
row o · stride + i · dilation - padding, so that the sums over positions are matrix products with
the small matrix that counts how often an offset meets a row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.precision.affine import Affine
from gcompile.passes.precision.run_rows import batches, run_rows
from gcompile.passes.precision.store_narrow import Names

Reals = NDArray[np.float64]

Read = tuple[str, Affine | None]
"""A product, by its name, and how its input is rounded; None is the input as it is."""


def observe_input_means(
    model: ir.Model, wanted: Iterable[Read], calibration: Arrays, run: Runner
) -> dict[Read, Reals]:
    """The mean of what each weight meets, or of the error of rounding it: (groups, depth).

    Args:
        model: The float model.
        wanted: Products of its main graph and roundings; each is a small output of one run.
        calibration: Rows to run the model on.
        run: Runs a model on rows.
    """
    probe = model.clone()
    nodes = {str(node.name): node for node in probe.graph}
    probe.graph.outputs.clear()
    writer = _Probe(probe)
    watched = {read: writer.add(nodes[read[0]], read[1]) for read in wanted}
    if not watched:
        return {}
    ir.remove_unused(probe)
    pieces: dict[Read, list[NDArray[np.generic]]] = {read: [] for read in watched}
    for piece in batches(calibration, model):
        outputs = run_rows(probe, piece, run)
        for read, name in watched.items():
            pieces[read].append(outputs[name])
    return {read: _mean(found, nodes[read[0]]) for read, found in pieces.items()}


def mean_shift(
    weight: NDArray[np.float32], stored: NDArray[np.float32], mean: Reals, rounding: Reals
) -> Reals:
    """How far the mean of each output channel moves, in order.

    Args:
        weight: The real weights, (groups, channels, depth).
        stored: The weights in their place.
        mean: Of what each weight meets, (groups, depth).
        rounding: The mean error of rounding that.
    """
    moved = stored @ rounding[:, :, None].astype(np.float32)
    missed = (stored - weight) @ mean[:, :, None].astype(np.float32)
    return np.asarray(moved.astype(np.float64) + missed).reshape(-1)


def _mean(found: Sequence[NDArray[np.generic]], node: ir.Node) -> Reals:
    groups = node.attributes.get_int("group", 1) if node.op_type == "Conv" else 1
    rows = np.concatenate(found).astype(np.float64)
    return np.asarray(rows.mean(axis=0).reshape(groups, -1))


class _Probe:
    """Adds the means to a copy of the model, one output each; values are quantized once."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.namer = Names(model)
        self.rounded: dict[tuple[ir.Value, Affine], ir.Value] = {}

    def add(self, node: ir.Node, mapping: Affine | None) -> str:
        """Add the mean over positions; return the name of the output, a row per inference."""
        x = node.inputs[0]
        assert x is not None
        shape = ir.contraction_of(node)
        assert shape is not None
        met = x if mapping is None else self._error(x, mapping)
        rank = len(ir.static_shape(x))
        if rank == 1:
            mean = self._node("Unsqueeze", [met, self._constant(np.array([0]))])
        elif node.op_type != "Conv":
            axes = np.arange(1, rank - 1)
            mean = self._reduced(met, axes) if len(axes) else self._node("Identity", [met])
        else:
            down, along = shares_met(shape)
            mean = self._node("MatMul", [met, self._constant(np.ascontiguousarray(along.T))])
            if rank == 4:
                mean = self._node("MatMul", [self._constant(down), mean])
        self.graph.outputs.append(mean)
        return str(mean.name)

    def _error(self, x: ir.Value, mapping: Affine) -> ir.Value:
        if (x, mapping) not in self.rounded:
            scale = self._constant(np.array(mapping.scale, np.float32))
            zero = self._constant(np.array(mapping.zero_point, np.uint8))
            stored = self._node("QuantizeLinear", [x, scale, zero], ir.DataType.UINT8)
            decoded = self._node("DequantizeLinear", [stored, scale, zero])
            self.rounded[x, mapping] = self._node("Sub", [decoded, x])
        return self.rounded[x, mapping]

    def _reduced(self, x: ir.Value, axes: NDArray[np.int64]) -> ir.Value:
        keep = [ir.Attr("keepdims", ir.AttributeType.INT, 0)]
        return self._node("ReduceMean", [x, self._constant(axes)], attributes=keep)

    def _constant(self, array: NDArray[np.generic]) -> ir.Value:
        return ir.add_constant(self.graph, self.namer.new_value("mean"), array)

    def _node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value],
        dtype: ir.DataType = ir.DataType.FLOAT,
        attributes: Sequence[ir.Attr] = (),
    ) -> ir.Value:
        name = self.namer.new_node(f"mean/{op_type}")
        node = ir.Node("", op_type, inputs, attributes, num_outputs=1, name=name)
        node.outputs[0].name, node.outputs[0].dtype = self.namer.new_value("mean"), dtype
        self.graph.append(node)
        return node.outputs[0]


def shares_met(shape: ir.Contraction) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The shares of a convolution's outputs in which offsets meet rows, and meet columns."""
    down = _shares(shape.in_h, shape.out_h, shape.kernel_h,
                   shape.stride_h, shape.dilation_h, shape.pad_top)  # fmt: skip
    along = _shares(shape.in_w, shape.out_w, shape.kernel_w,
                    shape.stride_w, shape.dilation_w, shape.pad_left)  # fmt: skip
    return down, along


def _shares(
    size: int, out: int, kernel: int, stride: int, dilation: int, padding: int
) -> NDArray[np.float32]:
    """The share of outputs in which an offset of the kernel meets a row: (offsets, rows)."""
    shares = np.zeros((kernel, size), np.float32)
    for offset in range(kernel):
        rows = np.arange(out) * stride + offset * dilation - padding
        shares[offset, rows[(rows >= 0) & (rows < size)]] = 1 / out
    return shares
