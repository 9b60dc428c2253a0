"""What the emitted kernels should cost, launch by launch: their units, operations and bytes.

The ledger of a report prices regions, before any kernel exists; so do budgets. This prices what
was emitted: launches that were fused away cost nothing, all that a region became are counted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.backends.cuda.kernel import Access, Kernel
from gcompile.backends.cuda.launches import Action, Launch, Program, Role, Value
from gcompile.backends.cuda.memory import touched
from gcompile.energy import Cost
from gcompile.energy.gpu import Issued, gpu_cost
from gcompile.energy.job import Job
from gcompile.ir import Precision, Tile
from gcompile.targets import Target

_VECTOR = "cuda-core"


@dataclass(frozen=True)
class Emitted:
    """What one inference starts.

    Attributes:
        launches: Kernels that are started; copies and fills count as such.
        tensor_launches: Those whose products run on tensor cores.
        sparse_launches: Those of them whose weights are stored two of four.
        narrow_launches: Those with fewer blocks than the GPU has processors.
        bytes: Read and written by all of them, each argument once.
    """

    launches: int
    tensor_launches: int
    sparse_launches: int
    narrow_launches: int
    bytes: int
    cost: Cost


def emitted(program: Program, target: Target) -> Emitted:
    """Price a program on a GPU."""
    jobs = [_job(action, target) for action in program.actions]
    touched_at_once = max((sum(job.activation_bytes) for job, _ in jobs), default=0)
    footprint = float(sum(array.nbytes for array in program.weights) + touched_at_once)
    launched = [action.kernel for action in program.actions if isinstance(action, Launch)]
    return Emitted(
        len(jobs),
        sum(kernel.unit.startswith("tensor-core") for kernel in launched),
        sum(kernel.is_sparse for kernel in launched),
        sum(_blocks(kernel) < target.processors for kernel in launched),
        sum(sum(job.activation_bytes) + job.constant_bytes for job, _ in jobs),
        Cost.total(
            gpu_cost(
                job,
                tile,
                target,
                footprint,
                issued(action.kernel, target) if isinstance(action, Launch) else Issued(),
            )
            for action, (job, tile) in zip(program.actions, jobs, strict=True)
        ),
    )


def busy_share(blocks: int, target: Target) -> float:
    """Share of the processors that have a block, over all turns."""
    return blocks / (math.ceil(blocks / target.processors) * target.processors)


def _job(action: Action, target: Target) -> tuple[Job, Tile]:
    """What an action does, and on which unit."""
    name, operations = _VECTOR, 0
    sizes = [(value, value.bytes) for value in touched(action)]
    if isinstance(action, Launch):
        kernel = action.kernel
        name, operations = kernel.unit, kernel.operations
        sizes = [
            (
                value,
                round(
                    value.bytes * argument.share * (2 if argument.access is Access.UPDATE else 1)
                ),
            )
            for value, argument in zip(action.values, kernel.arguments, strict=True)
        ]
    unit = target.unit_named(name)
    job = Job(
        precision=unit.precision if unit is not None else Precision.FP32,
        contraction=None,
        product_ops=operations,
        vector_ops=0,
        image_bytes=0,
        activation_bytes=tuple(size for value, size in sizes if not _is_weight(value)),
        constant_bytes=sum(size for value, size in sizes if _is_weight(value)),
    )
    return job, Tile(name, 1, 1)


def issued(kernel: Kernel, target: Target) -> Issued:
    """What the blocks of a kernel move, and how many processors have one."""
    busy = busy_share(_blocks(kernel), target)
    if kernel.traffic is None:
        return Issued(busy=busy)
    return Issued(kernel.traffic.shared_bytes, kernel.traffic.l2_bytes, busy)


def _is_weight(value: Value) -> bool:
    return value.role is Role.WEIGHT


def _blocks(kernel: Kernel) -> int:
    x, y, z = kernel.grid
    return x * y * z
