"""Move the outliers of activations into the weights that read them, channel by channel.

    s_i = max |x_i|^a / max |w_i|^(1 - a)        x_i / s_i is made,  w_i · s_i reads it

One scale must represent all channels of an activation, while weights have one per output: channels
of very different size waste the range. Xiao et al., "SmoothQuant: Accurate and Efficient
Post-Training Quantization for Large Language Models", 2022, arXiv 2211.10438. What makes the
activation takes the division, so that it costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Arrays, Numerics, Pass, PassContext, Runner, Skip
from gcompile.passes.channels import Vector
from gcompile.passes.precision.equalize_layers import (
    EVEN,
    ROUNDS,
    apply_scales,
    reader_sizes,
)
from gcompile.passes.precision.ranges import needs_calibration
from gcompile.passes.precision.ranges.histogram import expose
from gcompile.passes.precision.run_rows import batches, run_rows
from gcompile.passes.precision.scaling.absorb import why_not_absorbed
from gcompile.passes.precision.scaling.links import Link, input_axis, links


@dataclass(frozen=True)
class SmoothActivations(Pass):
    """Scale the channels that products read so that activations and weights share the outliers.

    Attributes:
        alpha: How much of an outlier the weights take: 0 none of it, 1 all.
    """

    name: ClassVar[str] = "smooth-activations"
    numerics: ClassVar[Numerics] = Numerics.ROUNDING

    alpha: float = 0.5

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise UsageError(f"alpha={self.alpha} must be between 0 and 1.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        able = []
        for found in links(model):
            reason = (
                found.reason
                if isinstance(found, Skip)
                else why_not_absorbed(found.value, found.axis)
            )
            if isinstance(found, Link) and reason is None:
                able.append(found)
            elif reason is not None:
                ctx.skipped[self.name, reason] += 1
        if not able:
            return 0
        calibration, run = needs_calibration(self.name, ctx)
        peaks = dict(zip(able, _peaks(model, able, calibration, run), strict=True))
        changed: set[ir.Value] = set()
        for _ in range(ROUNDS):  # A product between two others is scaled from both sides.
            uneven = [link for link in able if self._smooth(link, peaks[link])]
            changed.update(link.value for link in uneven)
            if not uneven:
                break
        if changed:
            ir.remove_unused(model)
        return len(changed)

    def _smooth(self, link: Link, peak: Vector) -> bool:
        """Scale a link and, in place, its peaks."""
        sizes = reader_sizes(link)
        used = (peak > 0) & (sizes > 0)
        scales = np.ones(link.channels)
        scales[used] = peak[used] ** self.alpha / sizes[used] ** (1 - self.alpha)
        if used.any():  # The whole tensor keeps its size.
            scales[used] /= np.exp(np.log(scales[used]).mean())
        if np.abs(np.log(scales)).max() < EVEN:
            return False
        apply_scales(link, scales, "smoothed")
        peak /= scales
        return True


def _peaks(model: ir.Model, found: list[Link], calibration: Arrays, run: Runner) -> list[Vector]:
    """The largest magnitude in each channel of each link, where products read it."""
    watched = expose(model, [_input_name(node) for link in found for node in link.readers])
    peaks = [np.zeros(link.channels) for link in found]
    for piece in batches(calibration, watched):
        values = {**piece, **run_rows(watched, piece, run)}
        for link, peak in zip(found, peaks, strict=True):
            for node in link.readers:
                array = np.abs(values[_input_name(node)].astype(np.float64))
                channels = np.moveaxis(array, input_axis(node), 0).reshape(link.channels, -1)
                np.maximum(peak, channels.max(axis=1), out=peak)
    return peaks


def _input_name(node: ir.Node) -> str:
    assert node.inputs[0] is not None
    return str(node.inputs[0].name)
