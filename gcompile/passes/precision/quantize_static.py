"""Compute products in 8-bit integers, with scales fixed from calibration rows (Q/DQ form).

    x ≈ (q_x - z_x) · s_x        q_x unsigned, one scale and zero point per tensor
    w ≈ q_w · s_w[channel]       q_w signed, symmetric, one scale per output channel
    y = s_x · s_w[channel] · sum over k of (q_x - z_x) · q_w + bias

The graph stays standard ONNX: QuantizeLinear where a value is made, DequantizeLinear where it is
read, biases in float. Scheme: Jacob et al., "Quantization and Training of Neural Networks for
Efficient Integer-Arithmetic-Only Inference", 2018 (arXiv 1712.05877).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Numerics, Pass, PassContext
from gcompile.passes.precision.affine import S8_MAX, Affine, WeightRange, quantize_weight
from gcompile.passes.precision.correct_bias import correct_biases
from gcompile.passes.precision.eligibility import product_regions, why_not
from gcompile.passes.precision.input_means import Read
from gcompile.passes.precision.plan_storage import StoragePlan, plan_storage, shared_scales
from gcompile.passes.precision.ranges import (
    Histogram,
    RangeMethod,
    choose_range,
    collect_histograms,
    needs_calibration,
)
from gcompile.passes.precision.reference import Reference
from gcompile.passes.precision.rounding import Rounding, round_layers
from gcompile.passes.precision.store_narrow import NarrowWriter


@dataclass(frozen=True)
class QuantizeStatic(Pass):
    """Quantize regions built around a convolution or matrix product to int8.

    Attributes:
        bits: Bits per stored element; the code generator has kernels for 8.
        calibration: How activation ranges are clipped.
        percentile: The share of values kept inside the range, for `percentile`.
        weights: How weight ranges are clipped.
        regions: Names of the regions to quantize; empty means every one that can be.
        rounding: To the nearest step, or to steps with which the outputs of a layer move least.
        bias_correction: Remove the mean error of each channel where that lowers the error.
        channel_means: Correct biases by an image of the means of channels, as other quantizers
            do, even where that raises the error (see `channel_means`).
    """

    name: ClassVar[str] = "quantize-static"
    numerics: ClassVar[Numerics] = Numerics.LOSSY

    bits: int = 8
    calibration: RangeMethod = RangeMethod.MINMAX
    percentile: float = 99.99
    weights: WeightRange = WeightRange.ABSMAX
    regions: tuple[str, ...] = ()
    rounding: Rounding = Rounding.NEAREST
    bias_correction: bool = True
    channel_means: bool = False

    def __post_init__(self) -> None:
        if self.bits != 8:
            raise UsageError(f"{self.name} has kernels for 8 bits, not {self.bits}: use bits=8.")
        if not 50.0 < self.percentile <= 100.0:
            raise UsageError(f"percentile={self.percentile} must be above 50 and at most 100.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        return self.quantize(model, ctx, choose_regions(model, self, ir.Precision.INT8, ctx))

    def quantize(
        self,
        model: ir.Model,
        ctx: PassContext,
        chosen: Sequence[ir.Region],
        histograms: Mapping[str, Histogram] | None = None,
        reference: Reference | None = None,
    ) -> int:
        """Quantize the regions given, which must be able to; return how many there were.

        `histograms` saves observing the values again; it must cover the plan's values. So does a
        `reference` that others of the same model have asked before.

        Raises:
            PassError: There are no calibration rows, or no runner.
        """
        if not chosen:
            return 0
        calibration, run = needs_calibration(self.name, ctx)
        plan = plan_storage(model, chosen)
        if histograms is None:
            histograms = collect_histograms(model, value_names(plan), calibration, run)
        refines = self.bias_correction or self.rounding is Rounding.GRAM
        if refines and reference is None:
            reference = Reference(model.clone(), calibration, run)
        mappings = self._mappings(model, plan, histograms)
        writer = NarrowWriter(model, plan, ir.DataType.UINT8, self.name)
        for value, mapping in mappings.items():
            _store_as_integer(model, writer, value, mapping)
        weighted = [region for region in chosen if region.batched_product is None]
        for region in weighted:
            self._quantize_weight(model, writer, region, reference)
        ir.remove_unused(model)
        if not refines or reference is None:
            return len(chosen)
        names = [region.name for region in weighted]
        if self.rounding is Rounding.GRAM:
            round_layers(model, reference, names, (-S8_MAX, S8_MAX))
        if self.bias_correction:
            by_name = {str(value.name): mapping for value, mapping in mappings.items()}
            correct_biases(model, reference, by_name, names, by_channel=self.channel_means)
        return len(chosen)

    def reads(
        self,
        model: ir.Model,
        chosen: Sequence[ir.Region],
        histograms: Mapping[str, Histogram],
    ) -> Iterator[Read]:
        """Yield what correcting biases will ask of a reference, to let it answer in one run."""
        mappings = self._mappings(model, plan_storage(model, chosen), histograms)
        for node in (region.anchor for region in chosen):
            if node is None or ir.is_batched_product(node) or node.inputs[0] not in mappings:
                continue
            yield str(node.name), None
            yield str(node.name), mappings[node.inputs[0]]

    def _mappings(
        self, model: ir.Model, plan: StoragePlan, histograms: Mapping[str, Histogram]
    ) -> dict[ir.Value, Affine]:
        found: dict[ir.Value, Affine] = {}
        for group in shared_scales(model, plan):
            ranges = [
                choose_range(histograms[str(value.name)], self.calibration, self.percentile)
                for value in group
            ]
            low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
            found.update(dict.fromkeys(group, Affine.for_range(low, high)))
        return {value: found[value] for value in plan.values}

    def _quantize_weight(
        self,
        model: ir.Model,
        writer: NarrowWriter,
        region: ir.Region,
        reference: Reference | None,
    ) -> None:
        node = region.anchor
        assert node is not None
        weight = node.inputs[1]
        array = ir.constant_array(weight)
        assert weight is not None
        assert array is not None
        axis = output_axis(node)
        known, key = reference.weights if reference else {}, (str(weight.name), self.weights)
        if key not in known:
            known[key] = quantize_weight(array.astype(np.float32), axis, self.weights)
        stored, scales = known[key]
        graph = model.graph
        inputs = [
            ir.add_constant(graph, f"{weight.name}_stored", stored),
            ir.add_constant(graph, f"{weight.name}_scale", scales),
            ir.add_constant(graph, f"{weight.name}_zero_point", np.zeros(len(scales), np.int8)),
        ]
        attributes = [ir.Attr("axis", ir.AttributeType.INT, axis)]
        decode = ir.Node("", "DequantizeLinear", inputs, attributes, num_outputs=1)
        writer.decode_constant(decode, weight, node)


def choose_regions(
    model: ir.Model,
    pass_: Pass,
    precision: ir.Precision,
    ctx: PassContext,
) -> list[ir.Region]:
    """The regions `pass_.regions` names, or all, that can have the precision; others are skipped.

    Raises:
        UsageError: A name is not that of a region built around a product.
    """
    wanted: tuple[str, ...] = getattr(pass_, "regions", ())
    found = {region.name: region for region in product_regions(model)}
    if unknown := [name for name in wanted if name not in found]:
        raise UsageError(
            f"{pass_.name} was given regions the model does not have: {', '.join(unknown)}. "
            f"Its regions with products are: {', '.join(found)}."
        )
    chosen = []
    for region in (found[name] for name in wanted or found):
        if reason := why_not(region, precision):
            ctx.skipped[pass_.name, reason] += 1
        else:
            chosen.append(region)
    return chosen


def value_names(plan: StoragePlan) -> list[str]:
    """The names of the values the plan stores narrow."""
    return [str(value.name) for value in plan.values]


def output_axis(node: ir.Node) -> int:
    """The axis of the weight operand that counts output channels."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if node.attributes.get_int("transB", 0) else 1
    return 1


def _store_as_integer(
    model: ir.Model, writer: NarrowWriter, value: ir.Value, mapping: Affine
) -> None:
    graph = model.graph
    scale = ir.add_constant(graph, f"{value.name}_scale", np.array(mapping.scale, np.float32))
    zero = ir.add_constant(
        graph, f"{value.name}_zero_point", np.array(mapping.zero_point, np.uint8)
    )
    writer.store(
        value,
        encode=_converter("QuantizeLinear", scale, zero),
        decode=_converter("DequantizeLinear", scale, zero),
    )


def _converter(op_type: str, scale: ir.Value, zero: ir.Value) -> Callable[[ir.Value], ir.Node]:
    return lambda value: ir.Node("", op_type, [value, scale, zero], num_outputs=1)
