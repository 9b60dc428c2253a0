"""What a region does, as the few amounts that whole-system joules can be told apart by.

    E = sum over regions, sum over terms of amount · joules per unit

Products cost by multiply-accumulates where they are bound by arithmetic, by outputs and inputs
where the product is thin (few input channels, few output channels), and by weights where the
image is small: MACs / (utilisation of a saturating unit) is linear in these four. Depthwise
convolutions have a price list of their own: what they load for each tap of the kernel, and what
each channel costs. So has a product of few rows, which streams weights. An operator costs
something even when it does nothing, and so does handing over the input.
"""

from __future__ import annotations

from gcompile import ir

TERMS = {
    "products": "MAC",
    "product_outputs": "B",
    "product_inputs": "B",
    "product_weights": "B",
    "row_weights": "B",
    "depthwise_products": "MAC",
    "depthwise_reads": "B",
    "depthwise_weights": "B",
    "elementwise": "B",
    "operators": "1",
    "model_inputs": "element",
}
"""The terms and the unit each is counted in. Bytes are elements times the precision's bits / 8."""

FEW_ROWS = 8
"""A product with fewer rows is bound by its weights: classifiers, decoding."""


def terms_of(region: ir.Region, precision: ir.Precision | None = None) -> dict[str, float]:
    """Count the terms of one region; a region that only renames memory has none.

    Args:
        region: A region of a model that is ready.
        precision: Count as if the region ran in this format; None takes its own.
    """
    work = ir.work_of(region)
    if work.is_view:
        return {}
    size = (precision or region.precision).bits / 8
    terms = {"operators": 1.0}
    given = sum(_count(value) for value in region.inputs if value.is_graph_input())
    if given:
        terms["model_inputs"] = given
    contraction = region.contraction
    if contraction is None:
        stored = region.precision.bits / 8
        terms["elementwise"] = (work.read_bytes + work.write_bytes) * size / stored
        if work.product_ops:
            terms["products"] = work.product_ops / 2
        return terms
    terms["elementwise"] = _beside(region) * size
    terms |= _product(contraction, region, size, first=bool(given))
    return terms


def _product(
    contraction: ir.Contraction, region: ir.Region, size: float, *, first: bool
) -> dict[str, float]:
    weights = contraction.weight_count * size
    inputs = contraction.batch * contraction.in_h * contraction.in_w * contraction.in_c * size
    if contraction.groups == contraction.in_c > 1:
        return {
            "depthwise_products": float(contraction.macs),
            "depthwise_reads": inputs * contraction.kernel_h * contraction.kernel_w,
            "depthwise_weights": weights,
        }
    terms = {"products": float(contraction.macs)}
    if contraction.m < FEW_ROWS:
        return terms | {"row_weights": weights}
    anchor = region.anchor
    is_constant = anchor is not None and ir.is_constant(_origin(anchor.inputs[1], region))
    return terms | {
        "product_outputs": contraction.m * contraction.n * size,
        "product_inputs": 0.0 if first else inputs,
        "product_weights": weights if is_constant else 0.0,
    }


def _beside(region: ir.Region) -> float:
    """Count the elements of activations that a product's region reads besides its operands."""
    anchor = region.anchor
    operands = [_origin(v, region) for v in anchor.inputs[:2]] if anchor is not None else []
    beside = [v for v in region.inputs if v.const_value is None and v not in operands]
    return sum(map(_count, beside))


def _origin(value: ir.Value | None, region: ir.Region) -> ir.Value | None:
    """Walk up to the value outside the region that this one is made from."""
    while value is not None and (producer := value.producer()) in region.nodes:
        value = producer.inputs[0] if producer is not None else None
    return value


def _count(value: ir.Value) -> float:
    elements = 1.0
    for extent in ir.static_shape(value):
        elements *= extent
    return elements
