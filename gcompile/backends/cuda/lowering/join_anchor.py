"""Concatenations of images that lie with their channels last: what they write lies so, too."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from gcompile import ir
from gcompile.backends.cuda.kernel import Buffer, CpuForm, Kernel, KernelSequence
from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.join_channels import JoinChannels
from gcompile.backends.cuda.lowering.anchor import Anchor, Operand, epilogue_of, storage_of
from gcompile.backends.cuda.lowering.numbers import with_numbers
from gcompile.backends.cuda.lowering.numeric_form import INTERPRETED_OPERATIONS, finish
from gcompile.backends.cuda.lowering.reading import real_number
from gcompile.backends.cuda.program.launch import as_kernel, least_arch_of
from gcompile.backends.cuda.program.program import Storage
from gcompile.backends.tvm.kernels.spec import Image
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.operands import substitute
from gcompile.backends.tvm.lowering.placement import Layout
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError, RegionExpression
from gcompile.backends.tvm.lowering.scaling import prune, scale_by
from gcompile.backends.tvm.lowering.windows import stored_input


def join_anchor(region: ir.Region, arch: int, lies_last: Callable[[ir.Value], bool]) -> Anchor:
    """Give a concatenation along channels its kernel.

    Args:
        region: A region with a Concat.
        arch: The architecture of the GPU: 80 for sm_80.
        lies_last: Whether an image lies with its channels last already.

    Raises:
        CannotEmitError: It runs along another axis, or not all images lie so.
    """
    node = next(node for node in region.nodes if node.op_type == "Concat")
    shape = ir.static_shape(node.outputs[0])
    if len(shape) != 4 or node.attributes.get_int("axis", 0) % 4 != 1:
        raise CannotEmitError("it is no concatenation along channels")
    read = [stored_input(region, value) for value in node.inputs]
    if not all(lies_last(value) for value, _, _ in read):
        raise CannotEmitError("an image has its channels first")
    bodies = [_body(region, node, scale, zero_point) for _, scale, zero_point in read]
    last = bodies[-1]
    if last.sources:
        raise CannotEmitError("what follows the concatenation reads another image")
    epilogues = with_numbers(*(_epilogue(body, shape) for body in bodies))
    kernel = _kernel(
        JoinChannels(
            "join",
            tuple(cast(Storage, storage_of(value)) for value, _, _ in read),
            tuple(ir.static_shape(value)[1] for value, _, _ in read),
            epilogues.epilogues,
        )
    )
    if kernel.least_arch > arch:
        raise CannotEmitError(f"sm_{arch} does not convert bfloat16")
    return Anchor(
        None,
        (*last.vectors, *epilogues.constants),
        tuple(
            Operand(value, Layout.CHANNELS_LAST, ir.static_shape(value)[1]) for value, _, _ in read
        ),
        last.output,
        Layout.CHANNELS_LAST,
        KernelSequence.of(kernel),
        stored=(),
        has_numbers=bool(epilogues.constants),
    )


def _body(region: ir.Region, node: ir.Node, scale: float, zero_point: int) -> RegionExpression:
    """What becomes of the numbers of one image."""
    body = read_region(region, Layout.CHANNELS_LAST, node.outputs[0])
    body.expression = substitute(body.expression, real_number(scale, zero_point))
    if body.out_scale != 1.0:
        scale_by(body, 1.0 / body.out_scale)
    prune(body)
    return body


def _epilogue(body: RegionExpression, shape: tuple[int, ...]) -> Epilogue:
    batch, channels, height, width = shape
    image = Image(batch, height, width, channels, storage_of(body.output))
    return epilogue_of(body, image, Layout.CHANNELS_LAST)[0]


def _kernel(join: JoinChannels) -> Kernel:
    digest = hashlib.sha256(repr(join).encode()).hexdigest()[:16]
    program = replace(join, name=f"join_{digest}").program()
    operations = join.pixels * sum(join.channels)
    kernel = as_kernel(program, operations=operations, least_arch=least_arch_of(program))
    is_large = operations > INTERPRETED_OPERATIONS
    return replace(kernel, cpu=whole_arrays(join)) if is_large else kernel


def whole_arrays(join: JoinChannels) -> CpuForm:
    """The same for all pixels of an image at once."""

    def compute(buffers: Sequence[Buffer]) -> None:
        images, rest, y = buffers[: len(join.images)], buffers[len(join.images) : -1], buffers[-1]
        whole = y.reshape(join.pixels, -1)
        for k, first in enumerate(join.firsts):
            epilogue, here = join.epilogues[k], slice(first, first + join.channels[k])
            vectors = [vector[here] for vector in rest[: epilogue.channel_vectors]]
            wide = np.int32 if "int" in join.storages[k] else np.float32
            values = images[k].astype(wide).reshape(join.pixels, -1)
            part = np.empty(values.size, y.dtype)
            finish(epilogue, values, [*vectors, *rest[epilogue.channel_vectors :]], part)
            whole[:, here] = part.reshape(values.shape)

    return compute
