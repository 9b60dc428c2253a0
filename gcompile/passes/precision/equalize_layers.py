"""Give the channels between two products ranges alike, in the weights before and after.

    s_i = sqrt(r1_i / r2_i)        r1_i the largest weight that makes channel i, r2_i that reads it

Channel i is divided by s_i where it is made and multiplied again where it is read: both weights
then span sqrt(r1_i · r2_i). Nagel et al., "Data-Free Quantization Through Weight Equalization and
Bias Correction", 2019, arXiv 1906.04721, section 4.1. No data is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gcompile import ir
from gcompile.passes.base import Numerics, Pass, PassContext, Skip
from gcompile.passes.canonicalize.affine import PRODUCTS
from gcompile.passes.channels import Vector
from gcompile.passes.precision.rounding import to_rows
from gcompile.passes.precision.scaling.absorb import absorb, why_not_absorbed
from gcompile.passes.precision.scaling.links import Link, input_sizes, links, scale_inputs

EVEN = 1e-2
"""Scales closer to 1 than this change nothing worth a rewrite."""

ROUNDS = 100
"""More rounds than scales take to settle."""


@dataclass(frozen=True)
class EqualizeLayers(Pass):
    """Scale channels between products so that the weights on both sides span alike."""

    name: ClassVar[str] = "equalize-layers"
    numerics: ClassVar[Numerics] = Numerics.ROUNDING

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        able = []
        for found in links(model):
            refusal = found if isinstance(found, Skip) else _refusal(found)
            if isinstance(found, Link) and refusal is None:
                able.append(found)
            elif refusal is not None:
                ctx.skipped[self.name, refusal.reason] += 1
        changed: set[ir.Value] = set()
        for _ in range(ROUNDS):  # A product between two others is scaled from both sides.
            uneven = [link for link in able if self._equalize(link)]
            changed.update(link.value for link in uneven)
            if not uneven:
                break
        if changed:
            ir.remove_unused(model)
        return len(changed)

    def _equalize(self, link: Link) -> bool:
        maker = _maker(link.value)
        assert maker is not None
        made, read = _output_sizes(maker, link), reader_sizes(link)
        used = (made > 0) & (read > 0)
        ratios = np.divide(made, read, out=np.ones_like(made), where=used)
        scales = np.sqrt(ratios)
        if np.abs(np.log(scales)).max() < EVEN:
            return False
        apply_scales(link, scales, "equalized")
        return True


def reader_sizes(link: Link) -> Vector:
    """The largest weight that reads each channel."""
    sizes = [input_sizes(node).reshape(link.channels, -1).max(axis=1) for node in link.readers]
    return np.asarray(np.max(sizes, axis=0))


def apply_scales(link: Link, scales: Vector, suffix: str) -> None:
    """Divide the channels of a link by scales, and multiply the weights that read them."""
    absorb(link.value, link.axis, 1.0 / scales, f"{link.value.name}::{suffix}")
    for node in link.readers:
        scale_inputs(node, scales, f"{node.name}::{suffix}")


def _refusal(link: Link) -> Skip | None:
    if reason := why_not_absorbed(link.value, link.axis):
        return Skip(reason)
    return None if _maker(link.value) else Skip("no product makes it")


def _maker(value: ir.Value) -> ir.Node | None:
    """The product that makes a value, perhaps before its bias is added."""
    node = value.producer()
    if node is not None and node.op_type == "Add":
        computed = [x for x in node.inputs if x is not None and not ir.is_constant(x)]
        node = computed[0].producer()
    is_product = node is not None and node.op_type in PRODUCTS - {"ConvTranspose"}
    return node if is_product else None


def _output_sizes(maker: ir.Node, link: Link) -> Vector:
    weight = ir.constant_array(maker.inputs[1])
    assert weight is not None
    rows = np.abs(to_rows(maker, weight).astype(np.float64))
    return np.asarray(rows.max(axis=2).reshape(link.channels))
