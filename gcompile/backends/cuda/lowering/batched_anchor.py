"""Products of two computed operands on tensor cores, read where their matrices lie."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from gcompile import ir
from gcompile.backends.cuda.kernels.batched_product import BatchedProduct, Pitches
from gcompile.backends.cuda.kernels.choose_tile import choose_tile
from gcompile.backends.cuda.kernels.tile_cost import Work
from gcompile.backends.cuda.lowering.anchor import Anchor, Operand, epilogue_of, itemsize
from gcompile.backends.cuda.lowering.numbers import with_numbers
from gcompile.backends.cuda.lowering.numeric_form import sequence_of
from gcompile.backends.cuda.program.instruction import instruction_for
from gcompile.backends.tvm.lowering.batched import output_matrices, real_product
from gcompile.backends.tvm.lowering.expressions import read_region
from gcompile.backends.tvm.lowering.operands import substitute
from gcompile.backends.tvm.lowering.placement import Layout
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError
from gcompile.backends.tvm.lowering.scaling import prune
from gcompile.errors import TargetError
from gcompile.targets import Target

_INSTRUCTIONS = {ir.DataType.BFLOAT16: "bf16", ir.DataType.FLOAT16: "f16"}

_FEWEST_COLUMNS = 8


def batched_anchor(region: ir.Region, target: Target, arch: int) -> Anchor:
    """Give products of two computed operands their kernel.

    Raises:
        CannotEmitError: Their matrices, types or sizes are none that the kernel reads.
    """
    found, node = region.batched_product, region.anchor
    if found is None or node is None:
        raise CannotEmitError("the rows of an operand's matrices are not contiguous")
    types = {operand.stored.dtype for operand in (found.left, found.right)}
    name = _INSTRUCTIONS.get(types.pop() or ir.DataType.FLOAT)
    if types or name is None:
        raise CannotEmitError("tensor cores multiply two computed operands in bf16 and fp16")
    instruction = instruction_for(name, arch)
    if instruction.architecture > arch:
        raise CannotEmitError(f"sm_{arch} has no {instruction.name}")
    if any(ir.is_constant(operand.stored) for operand in (found.left, found.right)):
        raise CannotEmitError("one of its operands is constant, the other no single matrix")
    _, n, _ = found.sizes
    if n < _FEWEST_COLUMNS:
        raise CannotEmitError("it is too small for tensor cores")
    body = read_region(region, Layout.MATRICES, node.outputs[0])
    body.expression = substitute(body.expression, real_product(node, body, 1.0))
    prune(body)
    image = output_matrices(found, body.output)
    image = replace(image, declared=None)
    plain, sources = epilogue_of(body, image, Layout.MATRICES)
    numbers = with_numbers(plain)
    epilogue = numbers.epilogue
    is_transposed = found.right.is_transposed
    out_bytes = itemsize(image.dtype) + sum(
        itemsize(s.image.dtype) for s in epilogue.sources if s.image.size == image.size
    )
    work = Work(found.contraction, found.pairs, instruction, out_bytes, not is_transposed)
    try:
        product = BatchedProduct(
            "product",
            instruction,
            found.contraction,
            choose_tile(work, target, arch),
            epilogue,
            x_pitch=0,
            weights_pitch=0,
            batch=found.pairs,
            heads=found.heads,
            left=Pitches(*found.left.strides),
            right=Pitches(*found.right.strides),
            is_transposed=is_transposed,
            are_side_by_side=found.mover is not None,
        )
        digest = hashlib.sha256(repr(replace(product, name="")).encode()).hexdigest()[:16]
        sequence = sequence_of(replace(product, name=f"products_{name}_{digest}"))
    except (TargetError, ValueError) as error:
        raise CannotEmitError(str(error)) from error
    return Anchor(
        _plain(found.left.stored),
        (*body.vectors, *numbers.constants),
        sources,
        body.output,
        Layout.ROWS,
        sequence,
        stored=(),
        right=_plain(found.right.stored),
        has_numbers=bool(numbers.constants),
    )


def _plain(value: ir.Value) -> Operand:
    """A tensor as it is."""
    return Operand(value, Layout.ROWS, ir.static_shape(value)[-1])
