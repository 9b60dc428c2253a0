"""Round the weights of a quantized model again, layer by layer, for the outputs of each layer."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

from gcompile import ir
from gcompile.passes.precision.output_error import normalised_error
from gcompile.passes.precision.reference import Reference
from gcompile.passes.precision.rounding.gram import Reals, collect_grams
from gcompile.passes.precision.rounding.reconstruct import Grid, reconstruct
from gcompile.passes.precision.rounding.weight_rows import from_rows, to_rows
from gcompile.passes.precision.run_rows import run_rows


class Rounding(StrEnum):
    """How weights are rounded."""

    NEAREST = "nearest"
    GRAM = "gram"


def round_layers(
    model: ir.Model,
    reference: Reference,
    names: Sequence[str],
    limits: tuple[int, int],
) -> int:
    """Round the weights of the regions named again; return how many changed, 0 if none helped.

    Every weight keeps its scale. A layer is fitted on what it reads in the quantized model. The
    whole change is taken back where the outputs of the model do not come closer.

    Args:
        model: The quantized model.
        reference: The same model before quantization, and the rows to observe layers on.
        names: Regions with quantized weights.
        limits: The least and the greatest integer that is stored.
    """
    rows, run = reference.rows, reference.run
    before = normalised_error(reference.expected, run_rows(model, rows, run))
    found = _anchors(model)
    originals = _anchors(reference.model)
    named = {name: found[name] for name in names}
    grams = collect_grams(model, named, reference.calibration, run)
    old = {
        name: _round(model, originals[name], found[name], grams[name], limits) for name in names
    }
    if normalised_error(reference.expected, run_rows(model, rows, run)) >= before:
        for name, stored in old.items():
            _decoder(found[name]).replace_input_with(0, stored)
        old = {}
    ir.remove_unused(model)
    return sum(stored is not None for stored in old.values())


def _round(
    model: ir.Model,
    original: ir.Node,
    anchor: ir.Node,
    gram: Reals,
    limits: tuple[int, int],
) -> ir.Value:
    """Store other integers; return those before."""
    decoder = _decoder(anchor)
    old, scale = decoder.inputs[0], ir.constant_array(decoder.inputs[1])
    stored, weight = ir.constant_array(old), ir.constant_array(original.inputs[1])
    assert old is not None
    assert stored is not None
    assert scale is not None
    assert weight is not None
    real = to_rows(original, weight).astype(np.float64)
    grid = Grid(_scales(original, scale, weight.shape), *limits)
    chosen = reconstruct(real, gram, grid)
    array = from_rows(original, chosen, stored.shape).astype(stored.dtype)
    decoder.replace_input_with(0, ir.add_constant(model.graph, f"{old.name}_rounded", array))
    return old


def _scales(node: ir.Node, scale: ir.Array, shape: tuple[int, ...]) -> Reals:
    """The scale of every weight, where each output channel has one."""
    is_first = node.op_type == "Conv" or bool(node.attributes.get_int("transB", 0))
    lined = scale.astype(np.float64).reshape(-1, *(1,) * (len(shape) - 1)) if is_first else scale
    return np.asarray(to_rows(node, np.broadcast_to(lined, shape)), np.float64)


def _decoder(anchor: ir.Node) -> ir.Node:
    decoder = anchor.inputs[1].producer() if anchor.inputs[1] is not None else None
    assert decoder is not None
    return decoder


def _anchors(model: ir.Model) -> dict[str, ir.Node]:
    return {r.name: r.anchor for r in ir.regions(model.graph) if r.anchor is not None}
