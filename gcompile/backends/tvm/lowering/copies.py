"""Concatenation, slices, splits, padding, repetition: parts of tensors copied by one kernel.

Numbers are copied as they are stored; where the scales of a quantized region differ they are
converted on the way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from gcompile import ir
from gcompile.backends.tvm.kernels.copy_regions import Box as ImageBox
from gcompile.backends.tvm.kernels.copy_regions import CopyKernel, Region, gaps
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Source
from gcompile.backends.tvm.lowering.boxes import COPIES, Copy, Run, copies_of
from gcompile.backends.tvm.lowering.memory import Memory
from gcompile.backends.tvm.lowering.placement import DTYPES, Layout, Placement
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.stored_numbers import quantization
from gcompile.backends.tvm.lowering.windows import stored_input

_CONVERSIONS = frozenset({"QuantizeLinear", "DequantizeLinear", "Cast"})
_RANK = 4


def copy_operator(region: ir.Region) -> ir.Node | None:
    """The one node of the region that copies boxes; all others convert numbers."""
    cores = [node for node in region.nodes if node.op_type not in _CONVERSIONS]
    is_copy = len(cores) == 1 and cores[0].op_type in COPIES and not cores[0].domain
    return cores[0] if is_copy else None


def lower_copies(region: ir.Region, node: ir.Node, memory: Memory) -> None:
    """Emit one copy for each output of the node."""
    copies = copies_of(node)
    if len(region.nodes) > 1 and len(copies) > 1:
        raise CannotEmitError("an operator with several outputs is part of a region")
    threads = region.tile.threads if region.tile else 1
    for copy in copies:
        _emit(region, copy, memory, threads)


@dataclass(frozen=True)
class _Stored:
    """A value as it lies in memory, and what its integers mean."""

    value: ir.Value
    scale: float
    zero_point: int


def _emit(region: ir.Region, copy: Copy, memory: Memory, threads: int) -> None:
    stored = [_Stored(*stored_input(region, value)) for value in copy.sources]
    result, scale, zero_point = copy.result, 1.0, 0
    if result not in region.outputs:
        (result,) = region.outputs
        last = region.nodes[-1]
        scale, zero_point = quantization(last) if last.op_type == "QuantizeLinear" else (1.0, 0)
    if result.dtype not in DTYPES:
        raise CannotEmitError(f"the output has type {result.dtype}")
    if not math.prod(copy.shape) or not copy.boxes:
        raise CannotEmitError("nothing is copied")
    is_image = _is_image(copy, stored, result, memory)
    if is_image:
        image, regions, sources, places = _as_images(copy, stored, result, memory)
    else:
        image, regions, sources, places = _as_rows(copy, stored, result, memory)
    kernel = CopyKernel(
        output=Output(image, scale, zero_point),
        expression=Accumulator(),
        sources=tuple(sources),
        regions=tuple(regions),
        fill=copy.fill,
        **memory.emission.shared(threads),
    )
    if copy.fill is None and gaps(kernel):
        kernel = replace(kernel, fill=0.0)  # Channels that only pad an image.
    var = memory.emission.call(kernel, [place.var for place in places], image)
    layout = Layout.CHANNELS_LAST if is_image else Layout.ROWS
    memory.put(result, Placement(var, layout, image))


_Parts = tuple[Image, list[Region], list[Source], list[Placement]]


def _is_image(copy: Copy, stored: list[_Stored], result: ir.Value, memory: Memory) -> bool:
    """Channels last where the output keeps its axes and somebody has it or wants it so."""
    shapes = [ir.static_shape(result), *(ir.static_shape(s.value) for s in stored)]
    if {len(shape) for shape in shapes} not in ({3}, {4}) or copy.shape != shapes[0]:
        return False
    return result in memory.requests or any(s.value in memory.images for s in stored)


def _as_images(copy: Copy, stored: list[_Stored], result: ir.Value, memory: Memory) -> _Parts:
    image = memory.new_image(result)
    places = [memory.image(s.value) for s in stored]
    sources = [Source(p.image, s.scale, s.zero_point) for p, s in zip(places, stored, strict=True)]
    regions = []
    for box in copy.boxes:
        batch, channels, *spatial = box.runs
        height, width = (Run(0, 0, 1), *spatial)[-2:]
        regions.append(_region(box.source, [batch, height, width, channels]))
    return image, regions, sources, places


def _as_rows(copy: Copy, stored: list[_Stored], result: ir.Value, memory: Memory) -> _Parts:
    """Logical order; neighbouring axes that are copied whole are one axis of the image."""
    rank = len(copy.shape)
    shapes = [(1,) * (rank - len(s)) + s for s in (ir.static_shape(x.value) for x in stored)]
    groups = _groups(copy, shapes)
    places = [memory.tensor(s.value) for s in stored]
    sources = [
        Source(
            Image(*_joined(shape, groups), place.image.dtype, declared=place.shape),
            s.scale,
            s.zero_point,
        )
        for place, s, shape in zip(places, stored, shapes, strict=True)
    ]
    declared = ir.static_shape(result)
    image = Image(*_joined(copy.shape, groups), DTYPES[_dtype(result)], declared=declared)
    regions = []
    for box in copy.boxes:
        runs = [_join([box.runs[axis] for axis in group]) for group in groups]
        regions.append(_region(box.source, [Run(0, 0, 1)] * (_RANK - len(runs)) + runs))
    return image, regions, sources, places


def _join(runs: list[Run]) -> Run:
    """Neighbouring axes as one: the first may be cut, the others are whole."""
    first, inner = runs[0], math.prod(run.size for run in runs[1:])
    return Run(first.start * inner, first.place * inner, first.size * inner, first.step)


def _groups(copy: Copy, shapes: list[tuple[int, ...]]) -> list[list[int]]:
    """Cut the axes into groups of neighbours that are one axis in memory.

    Axes that every box copies whole join, and the innermost of them join the axis before where
    that is cut without steps: long runs of memory.

    Raises:
        CannotEmitError: More than four groups are left.
    """
    groups: list[list[int]] = []
    was_whole = False
    for axis in range(len(copy.shape)):
        is_whole = all(
            box.runs[axis] == Run(0, 0, copy.shape[axis])
            and shapes[box.source][axis] == copy.shape[axis]
            for box in copy.boxes
        )
        if is_whole and was_whole:
            groups[-1].append(axis)
        else:
            groups.append([axis])
        was_whole = is_whole
    if len(groups) > 1 and was_whole:
        axis = groups[-2][-1]
        if len(groups[-2]) == 1 and all(box.runs[axis].step == 1 for box in copy.boxes):
            groups[-2:] = [groups[-2] + groups[-1]]
    if len(groups) > _RANK:
        raise CannotEmitError("parts are cut along more axes than an image has")
    return groups


def _joined(shape: tuple[int, ...], groups: list[list[int]]) -> tuple[int, int, int, int]:
    sizes = [math.prod(shape[axis] for axis in group) for group in groups]
    a, b, c, d = [1] * (_RANK - len(sizes)) + sizes
    return a, b, c, d


def _region(source: int, runs: list[Run]) -> Region:
    def box(name: str) -> ImageBox:
        a, b, c, d = (int(getattr(run, name)) for run in runs)
        return a, b, c, d

    return Region(source, box("start"), box("place"), box("size"), box("step"))


def _dtype(value: ir.Value) -> ir.DataType:
    return value.dtype or ir.DataType.FLOAT
