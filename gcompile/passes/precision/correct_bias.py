"""Remove the mean error that quantization leaves on each output channel of a product.

Rounding weights and clipping inputs shift the mean of a channel: E[y_q] - E[y] != 0. The shift is
a constant, so the bias can take it back at no run-time cost (Nagel et al., "Data-Free Quantization
Through Weight Equalization and Bias Correction", 2019, arXiv 1906.04721). Each product is observed
on the inputs the float model gives it, so that no correction counts an error of another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.passes.precision.affine import Affine
from gcompile.passes.precision.channel_means import met_by_weights, observe_channel_means
from gcompile.passes.precision.input_means import mean_shift
from gcompile.passes.precision.output_error import normalised_error
from gcompile.passes.precision.reference import Reference
from gcompile.passes.precision.rounding import to_rows
from gcompile.passes.precision.run_rows import run_rows
from gcompile.passes.product_bias import ProductBias, bias_of

_LARGEST_CHANGE = 2.0
"""Relative to the bias: what fast bias correction leaves alone beyond."""


def correct_biases(
    model: ir.Model,
    reference: Reference,
    mappings: Mapping[str, Affine],
    names: Sequence[str],
    *,
    by_channel: bool = False,
) -> int:
    """Correct the quantized regions named, in place; return how many were, 0 if it did not help.

    Args:
        model: The quantized model.
        reference: The same model before quantization, and the rows to observe errors on.
        mappings: How each value, by name, is quantized.
        names: The regions that were quantized.
        by_channel: Correct by the means of channels (see `channel_means`), even if errors grow.
    """
    rows, run = reference.rows, reference.run
    before = (
        0.0 if by_channel else normalised_error(reference.expected, run_rows(model, rows, run))
    )
    anchors = {r.name: r.anchor for r in ir.regions(model.graph) if r.anchor and r.name in names}
    shifts = _shifts(reference, anchors, mappings, by_channel=by_channel)
    if by_channel:
        shifts = {n: s for n, s in shifts.items() if _is_moderate(anchors[n], s)}
    changed = [_shift(model, anchors[name], shift) for name, shift in shifts.items()]
    kept = [bias for bias in changed if bias is not None]
    if by_channel or normalised_error(reference.expected, run_rows(model, rows, run)) < before:
        ir.remove_unused(model)
        return len(kept)
    for bias in kept:
        bias.set(bias.constant)
    ir.remove_unused(model)
    return 0


def _shifts(
    reference: Reference,
    anchors: Mapping[str, ir.Node],
    mappings: Mapping[str, Affine],
    *,
    by_channel: bool,
) -> dict[str, NDArray[np.float64]]:
    """The mean error of each channel of each product, on the inputs of the float model."""
    originals = {str(node.name): node for node in reference.model.graph}
    found: dict[str, tuple[ir.Node, Affine]] = {}
    for region, anchor in anchors.items():
        original = originals[str(anchor.name)]
        if not _has_weights(anchor):
            continue
        if mapping := mappings.get(str(original.inputs[0].name) if original.inputs[0] else ""):
            found[region] = original, mapping
    means = reference.input_means(
        (str(node.name), each)
        for node, mapping in found.values()
        for each in ((None,) if by_channel else (None, mapping))
    )
    channels = {}
    if by_channel:
        nodes = [str(node.name) for node, _ in found.values()]
        channels = observe_channel_means(
            reference.model, nodes, reference.calibration, reference.run
        )
    shifts = {}
    for region, (original, mapping) in found.items():
        weight, name = ir.constant_array(original.inputs[1]), str(original.name)
        assert weight is not None
        met = means[name, None]
        moved = (
            met_by_weights(original, channels[name], mapping) - met
            if by_channel
            else means[name, mapping]
        )
        shifts[region] = mean_shift(
            to_rows(original, weight).astype(np.float32, copy=False),
            to_rows(original, decoded_weight(anchors[region])),
            met,
            moved,
        )
    return shifts


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
    decoded = stored.astype(np.float32)
    decoded *= scale.astype(np.float32).reshape(shape)
    return decoded


def _is_moderate(anchor: ir.Node, shift: NDArray[np.float64]) -> bool:
    """Whether every bias of a product there is stays near what it was, as NNCF asks."""
    place = bias_of(anchor)
    old = ir.constant_array(place.constant) if place is not None else None
    if old is None or old.size != shift.size:
        return False
    known = np.abs(old.reshape(-1).astype(np.float64))
    return bool((np.abs(shift) < _LARGEST_CHANGE * known).all())


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
