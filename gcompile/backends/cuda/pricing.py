"""What regions cost as the launches that the lowering makes of them, before there are any.

Tiles are chosen by the same function as in the lowering, so that a product is priced with its own
blocks, its padding, the rows and columns that these bring from the second level, and the second
launch of a split depth. Attention is one launch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from gcompile import ir
from gcompile.backends.cuda.architecture import arch_of
from gcompile.backends.cuda.kernel import Kernel
from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.choose_tile import choose_tile
from gcompile.backends.cuda.kernels.tile_cost import Work, traffic_of, unit_of
from gcompile.backends.cuda.ledger import busy_share, issued
from gcompile.backends.cuda.lowering.anchor import itemsize
from gcompile.backends.cuda.lowering.attentions import attentions_of
from gcompile.backends.cuda.program.instruction import instruction_for
from gcompile.energy.emission import Launched
from gcompile.energy.gpu import Issued
from gcompile.energy.job import Job
from gcompile.errors import TargetError
from gcompile.ir import Precision
from gcompile.targets import Target

_ELEMENTS = {Precision.BF16: "bf16", Precision.FP16: "f16", Precision.INT8: "u8s8"}
_STORED = {
    Precision.BF16: ir.DataType.BFLOAT16,
    Precision.FP16: ir.DataType.FLOAT16,
    Precision.INT8: ir.DataType.UINT8,
}
_UNIT_BYTES = 16
_FEWEST_COLUMNS = 8
_SUM_BYTES = 4


@dataclass(frozen=True)
class CudaEmission:
    """The launches of this backend, as `gcompile.energy.emission.Emission` asks for them."""

    def launches(self, job: Job, target: Target) -> tuple[Launched, ...]:
        """Products on tensor cores; all else moves its operands once, as any kernel does."""
        if job.steps > 1:
            return _recurrence(job, target)
        work = _work_of(job, target)
        if work is None:
            return ()
        try:
            tile = choose_tile(work, target, arch_of(target))
        except (TargetError, ValueError):  # No tile fits it, and it is written in another way.
            return ()
        if tile.split == 1:
            return (_product(job, work, tile, target),)
        sums = tile.split * work.contraction.m * work.contraction.n * work.batch * _SUM_BYTES
        main = replace(job, activation_bytes=(sums,), constant_bytes=0, vector_ops=0)
        if job.batch is not None:
            main = replace(main, activation_bytes=(sums, *_operand_bytes(job)))
        second = replace(
            job,
            contraction=None,
            batch=None,
            product_ops=0,
            image_bytes=0,
            activation_bytes=(sums, *job.activation_bytes),
        )
        return (
            _product(main, replace(work, out_bytes=_SUM_BYTES), tile, target),
            Launched(second, _unit(work, target), Issued()),
        )

    def merged(
        self, regions: Sequence[ir.Region], target: Target, precision: Precision | None
    ) -> Mapping[str, tuple[Launched, ...]]:
        """Attention: the region that is written last has its launch. Views have none."""
        views: dict[str, tuple[Launched, ...]] = {r.name: () for r in regions if _is_view(r)}
        if precision is not None and precision not in _STORED:
            return views
        supposed = None if precision is None else _STORED[precision]
        try:
            found = attentions_of(regions, target, arch_of(target), supposed)
        except TargetError:
            return views
        return views | {
            region.name: () if call is None else (_launched(call.kernel, target),)
            for region, call in found.items()
        }


def _work_of(job: Job, target: Target) -> Work | None:
    """The product as the lowering cuts it; None where it has no kernel on tensor cores."""
    shape, element = job.blocked, _ELEMENTS.get(job.precision)
    if shape is None or element is None or shape.n < _FEWEST_COLUMNS:
        return None
    if job.stored_weight_bytes is not None or (job.batch is not None and element == "u8s8"):
        return None
    try:
        instruction = instruction_for(element, arch_of(target))
        unit_of(instruction, target)
    except TargetError:
        return None
    outputs = shape.m * shape.n
    if job.batch is not None:
        moved = sum(job.activation_bytes) - sum(_operand_bytes(job))
        out_bytes = max(moved, 0) / (outputs * job.batch.pairs)
        return Work(shape, job.batch.pairs, instruction, out_bytes, not job.batch.is_transposed)
    whole = _UNIT_BYTES // instruction.element_bytes
    padded = replace(shape, in_c=math.ceil(shape.in_c / whole) * whole)
    return Work(padded, 1, instruction, sum(job.activation_bytes) / outputs)


def _recurrence(job: Job, target: Target) -> tuple[Launched, ...]:
    """All inputs' product with their weights, then all steps, a block for each sequence."""
    if job.contraction is None:
        return ()
    projected = job.contraction.m * job.contraction.n * _SUM_BYTES
    unit = target.unit_for(Precision.FP32, dense=False).name
    first = replace(
        job,
        vector_ops=0,
        activation_bytes=(projected,),
        constant_bytes=job.constant_bytes - job.step_bytes,
        steps=1,
        step_bytes=0,
    )
    steps = replace(
        job,
        contraction=None,
        product_ops=job.vector_ops,
        vector_ops=0,
        image_bytes=0,
        activation_bytes=(projected, *job.activation_bytes),
        constant_bytes=job.step_bytes,
        steps=1,
        step_bytes=0,
    )
    busy = busy_share(job.sequences, target)
    return Launched(first, unit, Issued()), Launched(steps, unit, Issued(busy=busy))


def _operand_bytes(job: Job) -> tuple[int, int]:
    """Both operands of a batch of products, once."""
    assert job.batch is not None
    shape, size = job.batch.contraction, job.precision.bits // 8
    left, right = shape.m * shape.k * job.batch.pairs, shape.weight_count * job.batch.rights
    return left * size, right * size


def _unit(work: Work, target: Target) -> str:
    return unit_of(work.instruction, target)[0].name


def _product(job: Job, work: Work, tile: BlockTile, target: Target) -> Launched:
    """The launch that multiplies: what its blocks issue and move."""
    c, size = work.contraction, work.instruction.element_bytes
    blocks = math.ceil(c.m / tile.rows) * math.ceil(c.n / tile.columns) * work.batch * tile.split
    stages = math.ceil(math.ceil(c.k * size / tile.depth_bytes) / tile.split)
    done = replace(
        job,
        contraction=None,
        batch=None,
        product_ops=2 * blocks * tile.rows * tile.columns * stages * tile.depth_bytes // size,
        constant_bytes=job.constant_bytes + job.weight_bytes,
    )
    moved = traffic_of(work, tile)
    busy = busy_share(blocks, target)
    return Launched(done, _unit(work, target), Issued(moved.shared_bytes, moved.l2_bytes, busy))


def _launched(kernel: Kernel, target: Target) -> Launched:
    """A kernel that is written, none of whose arguments are weights."""
    unit = target.unit_named(kernel.unit)
    job = Job(
        precision=unit.precision if unit is not None else Precision.FP32,
        contraction=None,
        product_ops=kernel.operations,
        vector_ops=0,
        image_bytes=0,
        activation_bytes=tuple(a.size * itemsize(a.dtype) for a in kernel.arguments),
        constant_bytes=0,
    )
    return Launched(job, kernel.unit, issued(kernel, target))


def _is_view(region: ir.Region) -> bool:
    """Whether it only gives stored numbers another shape, which is no launch."""
    move = ir.stored_move(region)
    return move is not None and move.node.op_type != "Transpose"
