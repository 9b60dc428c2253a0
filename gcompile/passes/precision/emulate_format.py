"""Compute products on operands rounded to a narrow format, in fp32: what accuracy would be.

Weights are rounded once. Activations are rounded by standard ONNX operators before the product,
along what it sums over: channels, for convolutions. Sums stay in fp32, as in matrix units. This
says what a format costs in accuracy, on any device; it saves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext, Skip
from gcompile.passes.precision.formats import NumberFormat
from gcompile.passes.precision.ranges import collect_histograms, needs_calibration
from gcompile.passes.precision.round_nodes import RoundingNodes
from gcompile.passes.precision.scaling.links import input_axis, reads_channels
from gcompile.passes.precision.store_narrow import Names

_MARK = "gcompile.emulated_format"


@dataclass(frozen=True)
class EmulateFormat(Pass):
    """Round what products multiply to a narrow format.

    Attributes:
        format: The format of weights and activations.
        activations: Whether activations are rounded too.
    """

    name: ClassVar[str] = "emulate-format"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    format: NumberFormat = NumberFormat.MXFP8
    activations: bool = True

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        chosen = []
        for node in list(model.graph):
            refusal = _refusal(node)
            if refusal is None:
                chosen.append(node)
            elif refusal.reason:
                ctx.skipped[self.name, refusal.reason] += 1
        if not chosen:
            return 0
        peaks = self._peaks(model, chosen, ctx)
        writer = RoundingNodes(model.graph, Names(model), self.format, self.name)
        rounded: dict[tuple[ir.Value, int], ir.Value] = {}
        for node in chosen:
            self._round_weight(node)
            x, axis = node.inputs[0], input_axis(node)
            assert x is not None
            if self.activations:
                if (x, axis) not in rounded:
                    rounded[x, axis] = writer.round(x, axis, node, peaks.get(str(x.name)))
                node.replace_input_with(0, rounded[x, axis])
            node.metadata_props[_MARK] = str(self.format)
        ir.remove_unused(model)
        ir.infer_shapes(model)
        return len(chosen)

    def _peaks(self, model: ir.Model, chosen: list[ir.Node], ctx: PassContext) -> dict[str, float]:
        """The largest magnitude of each activation, where the format needs to know."""
        if self.format.block is not None or not self.activations:
            return {}
        calibration, run = needs_calibration(self.name, ctx)
        names = [str(node.inputs[0].name) for node in chosen if node.inputs[0] is not None]
        found = collect_histograms(model, list(dict.fromkeys(names)), calibration, run)
        return {name: max(abs(h.low), abs(h.high)) for name, h in found.items()}

    def _round_weight(self, node: ir.Node) -> None:
        weight, graph = node.inputs[1], node.graph
        array = ir.constant_array(weight)
        assert array is not None
        assert weight is not None
        assert isinstance(graph, ir.Graph)
        is_turned = node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
        depth = 1 if node.op_type == "Conv" or is_turned else 0
        rows = np.moveaxis(array.astype(np.float64), depth, -1)
        if self.format.block is None:  # One scale for each output channel, whatever its shape.
            output = 0 if node.op_type == "Conv" or is_turned else 1
            rows = np.moveaxis(array.astype(np.float64), output, 0)
            flat = self.format.nearest(rows.reshape(len(rows), -1))
            stored = np.moveaxis(flat.reshape(rows.shape), 0, output)
        else:
            stored = np.moveaxis(self.format.nearest(rows), -1, depth)
        name = f"{weight.name}::{self.format}"
        constant = ir.add_constant(graph, name, np.ascontiguousarray(stored, dtype=np.float32))
        node.replace_input_with(1, constant)


def _refusal(node: ir.Node) -> Skip | None:
    """Why a product is left alone; without a reason where the node is none."""
    if node.domain or node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return Skip("")
    if _MARK in node.metadata_props:
        return Skip("it is emulated already")
    if not reads_channels(node):
        return Skip("it is no product of an fp32 activation and a constant matrix")
    if node.attributes.get_int("group", 1) > 1:
        return Skip("it is a grouped convolution, which vector units compute in fp32")
    return None
