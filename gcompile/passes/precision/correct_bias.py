"""Remove the mean error that quantization leaves on each output channel of a product.

Rounding weights and clipping inputs shift the mean of a channel: E[y_q] - E[y] != 0. The shift is
a constant, so the bias can take it back at no run-time cost (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019, arXiv 1906.04721). Each product is observed
on the inputs the float model gives it, so that no correction counts an error of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.precision.affine import Affine
from gcompile.passes.precision.output_error import normalised_error
from gcompile.passes.precision.run_rows import batches, run_rows
from gcompile.passes.precision.store_narrow import Names
from gcompile.passes.product_bias import ProductBias, bias_of

_INFERENCES = 64


def correct_biases(
    model: ir.Model,
    reference: ir.Model,
    mappings: Mapping[str, Affine],
    names: Sequence[str],
    calibration: Arrays,
    run: Runner,
) -> int:
    """Correct the quantized regions named, in place; return how many were, 0 if it did not help.

    Args:
        model: The quantized model.
        reference: The same model before quantization, with the same region and value names.
        mappings: How each value, by name, is quantized.
        names: The regions that were quantized.
        calibration: Rows to observe errors on.
        run: Runs a model on rows.
    """
    rows = next(batches(calibration, model, _INFERENCES))
    expected = run_rows(reference, rows, run)
    before = normalised_error(expected, run_rows(model, rows, run))
    anchors = {r.name: r.anchor for r in ir.regions(model.graph) if r.anchor and r.name in names}
    shifts = _observe(reference, anchors, mappings, calibration, run)
    changed = [_shift(model, anchors[name], shift) for name, shift in shifts.items()]
    kept = [bias for bias in changed if bias is not None]
    if normalised_error(expected, run_rows(model, rows, run)) < before:
        ir.remove_unused(model)
        return len(kept)
    for bias in kept:
        bias.set(bias.constant)
    ir.remove_unused(model)
    return 0


def _observe(
    reference: ir.Model,
    anchors: Mapping[str, ir.Node],
    mappings: Mapping[str, Affine],
    calibration: Arrays,
    run: Runner,
) -> dict[str, NDArray[np.float64]]:
    """The mean error of each channel of each product, on the inputs of the float model."""
    probe = reference.clone()
    originals = {str(node.name): node for node in probe.graph}
    namer = Names(probe)
    probe.graph.outputs.clear()
    watched: dict[str, str] = {}
    for region, anchor in anchors.items():
        original = originals[str(anchor.name)]
        if not _has_weights(anchor):
            continue
        if mapping := mappings.get(str(original.inputs[0].name) if original.inputs[0] else ""):
            replica = _Replica(probe.graph, namer, original, mapping)
            watched[region] = replica.add(decoded_weight(anchor))
    if not watched:
        return {}
    ir.remove_unused(probe)
    pieces: dict[str, list[NDArray[np.generic]]] = {region: [] for region in watched}
    for piece in batches(calibration, reference):
        outputs = run_rows(probe, piece, run)
        for region, name in watched.items():
            pieces[region].append(outputs[name])
    return {
        region: np.concatenate(found).astype(np.float64).mean(axis=0)
        for region, found in pieces.items()
    }


def _has_weights(anchor: ir.Node) -> bool:
    """Say whether the right operand is a constant.

    Products of two computed operands have no error of weights to correct.
    """
    decode = anchor.inputs[1].producer() if anchor.inputs[1] is not None else None
    return decode is not None and ir.constant_array(decode.inputs[0]) is not None


def decoded_weight(anchor: ir.Node) -> NDArray[np.float32]:
    """The real weights a quantized product multiplies with."""
    decode = anchor.inputs[1].producer() if anchor.inputs[1] is not None else None
    assert decode is not None
    stored, scale = ir.constant_array(decode.inputs[0]), ir.constant_array(decode.inputs[1])
    assert stored is not None
    assert scale is not None
    shape = [1] * stored.ndim
    shape[decode.attributes.get_int("axis", 1)] = -1
    return stored.astype(np.float32) * scale.astype(np.float32).reshape(shape)


@dataclass(frozen=True)
class _Replica:
    """A second copy of a product beside the first, on quantized operands."""

    graph: ir.Graph
    namer: Names
    original: ir.Node
    mapping: Affine

    def add(self, weight: NDArray[np.float32]) -> str:
        """Add the copy and the mean of its error; return the name of that graph output."""
        x = self.original.inputs[0]
        assert x is not None
        scale = self._constant(np.array(self.mapping.scale, np.float32))
        zero = self._constant(np.array(self.mapping.zero_point, np.uint8))
        stored = self._node("QuantizeLinear", [x, scale, zero], ir.DataType.UINT8)
        decoded = self._node("DequantizeLinear", [stored, scale, zero])
        copy = self._node(
            self.original.op_type,
            [decoded, self._constant(weight), *self.original.inputs[2:]],
            attributes=list(self.original.attributes.values()),
        )
        error = self._node("Sub", [copy, self.original.outputs[0]])
        rank = len(ir.static_shape(self.original.outputs[0]))
        channel = 1 if self.original.op_type == "Conv" else rank - 1
        axes = [axis for axis in range(1, rank) if axis != channel]
        if axes:
            keep = [ir.Attr("keepdims", ir.AttributeType.INT, 0)]
            listed = self._constant(np.array(axes, np.int64))
            error = self._node("ReduceMean", [error, listed], attributes=keep)
        self.graph.outputs.append(error)
        return str(error.name)

    def _constant(self, array: NDArray[np.generic]) -> ir.Value:
        return ir.add_constant(self.graph, self.namer.new_value("replica"), array)

    def _node(
        self,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        dtype: ir.DataType = ir.DataType.FLOAT,
        attributes: Sequence[ir.Attr] = (),
    ) -> ir.Value:
        name = self.namer.new_node(f"replica/{self.original.name}")
        node = ir.Node("", op_type, inputs, attributes, num_outputs=1, name=name)
        node.outputs[0].name, node.outputs[0].dtype = self.namer.new_value("replica"), dtype
        self.graph.append(node)
        return node.outputs[0]


def _shift(model: ir.Model, anchor: ir.Node, shift: NDArray[np.float64]) -> ProductBias | None:
    """Subtract `shift` from the constant added to the product; None where there is no place."""
    bias = bias_of(anchor)
    if bias is None:
        return None
    old = ir.constant_array(bias.constant)
    if old is None:
        new = -shift
    elif old.size in (1, shift.size) and old.size == max(old.shape[-1:], default=1):
        new = old.astype(np.float64) - shift
    else:
        return None
    base = bias.constant.name if bias.constant is not None else f"{anchor.name}_bias"
    constant = ir.add_constant(model.graph, f"{base}_corrected", new.astype(np.float32))
    bias.set(constant)
    return bias
