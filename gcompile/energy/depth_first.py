"""Price regions that are computed depth first: pass by pass, each where the one before left off.

What a pass reads of another region of the chain was written in the same pass. It is in every cache
that holds what a pass touches, however large the image is. Weights are read in each pass.
"""

from __future__ import annotations

from dataclasses import replace

from gcompile import ir
from gcompile.energy.job import Job, activations_of


def passes_of(region: ir.Region, chain: ir.Chain) -> float:
    """How many passes the region's output takes; the last may be a part of one."""
    return _height(region) / chain.rows


def pass_of(region: ir.Region, chain: ir.Chain, job: Job) -> Job:
    """The part of the region's job that one pass does.

    Args:
        region: A region of the chain; its output is an image, (1, channels, height, width).
        chain: Its part in the chain.
        job: The whole.
    """
    share = chain.rows / _height(region)
    read = share
    contraction = job.contraction and _pass_of(job.contraction, chain.rows)
    if contraction is not None and job.contraction is not None:
        read = min(1.0, contraction.in_h / job.contraction.in_h)
    touched = chain.window_bytes  # As any activation, it stays where that fits twice.
    within = tuple(
        touched if value is not None and _is_inner(value, region, chain) else size
        for value, (_, size) in zip(activations_of(region), job.activations, strict=True)
    )
    sizes = (round(size * share) for size in job.activation_bytes)
    return replace(
        job,
        contraction=contraction,
        sliding=job.sliding and _pass_of(job.sliding, chain.rows),
        sliding_bytes=round(job.sliding_bytes * share),
        part=job.part and _pass_of(job.part, chain.rows),
        product_ops=round(job.product_ops * share),
        vector_ops=round(job.vector_ops * share),
        image_bytes=round(job.image_bytes * read),
        activation_bytes=(*sizes, 2 * chain.kept_bytes),
        within=(*within, touched),
        launches=region.name == chain.name,
    )


def _pass_of(whole: ir.Contraction, rows: int) -> ir.Contraction:
    return replace(
        whole, in_h=ir.RowWindow.of(whole).count(rows), out_h=rows, pad_top=0, pad_bottom=0
    )


def _is_inner(value: ir.Value, region: ir.Region, chain: ir.Chain) -> bool:
    """Say whether a value stays in the chain."""
    if value in region.outputs:
        return region.name != chain.name
    other = ir.chain_of(value.producer())
    return other is not None and other.name == chain.name


def _height(region: ir.Region) -> int:
    return ir.static_shape(region.outputs[0])[2]
