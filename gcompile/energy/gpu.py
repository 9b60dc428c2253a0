"""Price one kernel of a GPU: blocks fill the processors, and the power limit sets the clock.

    t(s) = max(compute / s, caches / s, main memory) + launch
    E(s) = (operations + caches) · s^(n - 1) + main memory
    P(s) = P_static + E(s) / t(s) ≤ limit

The clock s is the highest at which the limit holds. Dynamic power goes with clock^n, main memory
keeps its own clock. What stands around the device is paid for the time, and the supply's losses
for everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from gcompile.energy.cost import Cost
from gcompile.energy.job import Job
from gcompile.energy.traffic import activation_missed, resident_share
from gcompile.ir import Precision, Tile
from gcompile.targets import Power, Target, Unit

_BLOCKS = ((1, 1), (1, 2), (2, 1), (2, 2), (4, 2), (4, 4))
"""How a kernel may divide the unit's block, rows and columns, to give every processor work."""

_WARP = 64
"""Rows and columns of the product that one group of threads holds in registers."""

_LEAST_CLOCK = 0.1


@dataclass(frozen=True, slots=True)
class Issued:
    """What is known of a kernel once it is written.

    Attributes:
        inner_bytes: Through the first level and shared memory; None moves each operand once.
        shared_bytes: Through the level that processors share; None moves each operand once.
        busy: Share of the processors that have a block.
    """

    inner_bytes: float | None = None
    shared_bytes: float | None = None
    busy: float = 1.0


@dataclass(frozen=True, slots=True)
class _Demand:
    """What a kernel asks of a GPU at its full clock.

    Attributes:
        core_s: Seconds that fall as the clock rises.
        core_j: Joules of operations, from the same clock.
        sent: Bytes by level, innermost first.
    """

    core_s: float
    core_j: float
    sent: dict[str, float]


def gpu_cost(
    job: Job,
    tile: Tile,
    target: Target,
    footprint_bytes: float,
    issued: Issued | None = None,
) -> Cost:
    """Price the job on the whole GPU.

    Args:
        job: What the kernel does.
        tile: Names the unit.
        target: A GPU.
        footprint_bytes: Bytes the whole model touches between two uses of the same weight.
        issued: What the kernel does, where it is written; its operations are then the job's.
    """
    vector = target.unit_for(Precision.FP32, dense=False)
    unit = target.unit_named(tile.unit) or vector
    blocks = [(0, 0)] if issued is not None else dict.fromkeys(_blocks(job, unit))
    demands = [
        _demand(job, unit, block, target, footprint_bytes, issued or Issued()) for block in blocks
    ]
    return min((_settle(d, job, target) for d in demands), key=lambda cost: cost.time_s)


def _blocks(job: Job, unit: Unit) -> list[tuple[int, int]]:
    rows, columns = unit.block
    if job.contraction is None or not rows:
        return [(0, 0)]
    return [(rows // r, columns // c) for r, c in _BLOCKS]


def _demand(
    job: Job,
    unit: Unit,
    block: tuple[int, int],
    target: Target,
    footprint_bytes: float,
    issued: Issued,
) -> _Demand:
    vector = target.unit_for(Precision.FP32, dense=False)
    vector_s = job.vector_ops / (vector.peak_ops_per_s * target.vector_efficiency)
    products, busy = _issued(job, block, target)
    # Several blocks share a processor: while one computes its products, another does the rest.
    busy *= issued.busy
    product_s = products / (unit.peak_ops_per_s * unit.efficiency * busy)
    inner, shared, dram = target.memories
    sent = {
        inner.name: _known(issued.inner_bytes, _loaded_bytes(job, products, block)),
        shared.name: _known(issued.shared_bytes, _block_bytes(job, block)),
        dram.name: _missed_bytes(job, shared.size_bytes, footprint_bytes),
    }
    caches_s = max(
        sent[level.name] / level.bandwidth(1, target.cores) for level in (inner, shared)
    )
    return _Demand(
        core_s=max(product_s, vector_s, caches_s),
        core_j=products * unit.op_j + job.vector_ops * vector.op_j,
        sent=sent,
    )


def _known(found: float | None, estimated: float) -> float:
    return estimated if found is None else found


def _issued(job: Job, block: tuple[int, int], target: Target) -> tuple[float, float]:
    """Return the operations of whole blocks, and the share of the processors that have one."""
    contraction = job.contraction
    if contraction is None or not block[0]:
        return float(job.product_ops), 1.0
    depth = contraction.kernel_h * contraction.kernel_w * math.ceil(contraction.in_c / 4) * 4
    blocks = math.ceil(contraction.m / block[0]) * math.ceil(contraction.n / block[1])
    waves = math.ceil(blocks / target.processors)
    return 2.0 * blocks * block[0] * block[1] * depth, blocks / (waves * target.processors)


def _loaded_bytes(job: Job, products: float, block: tuple[int, int]) -> float:
    """Bytes from the first level: operands of the groups of threads, and everything else once."""
    once = sum(job.activation_bytes) + job.constant_bytes
    if job.contraction is None or not block[0]:
        return float(once + job.image_bytes)
    rows, columns = min(_WARP, block[0]), min(_WARP, block[1])
    return once + products / 2 * (1 / rows + 1 / columns) * job.precision.bits / 8


def _block_bytes(job: Job, block: tuple[int, int]) -> float:
    """Bytes from the shared level: the rows and columns of every block, rows with their halo."""
    once = sum(job.activation_bytes) + job.constant_bytes
    contraction = job.contraction
    if contraction is None or not block[0]:
        return float(once + job.image_bytes)
    lines = max(1.0, block[0] / contraction.out_w)
    halo = min(
        contraction.kernel_h / contraction.stride_h,
        1 + max(0, contraction.kernel_h - contraction.stride_h) / (lines * contraction.stride_h),
    )
    image = job.image_bytes * math.ceil(contraction.n / block[1]) * max(1.0, halo)
    return once + image + job.weight_bytes * math.ceil(contraction.m / block[0])


def _missed_bytes(job: Job, capacity_bytes: float, footprint_bytes: float) -> float:
    """Bytes from main memory: every operand once, unless the shared level still holds it."""
    cold = 1 - resident_share(footprint_bytes, capacity_bytes)
    activations = (job.image_bytes, *job.activation_bytes)
    missed = sum(size * activation_missed(size, capacity_bytes) for size in activations)
    return missed + (job.weight_bytes + job.constant_bytes) * cold


def _settle(demand: _Demand, job: Job, target: Target) -> Cost:
    """Find the clock that the power limit allows, and price the kernel at it."""
    dram = target.memories[-1]
    power = target.power or Power(limit_w=math.inf)
    launch_s = target.launch_s if job.launches else 0.0
    dram_s = demand.sent[dram.name] / dram.bandwidth(1, target.cores)
    dram_j = demand.sent[dram.name] * dram.byte_j
    caches_j = sum(demand.sent[m.name] * m.byte_j for m in target.memories[:-1])

    def seconds(clock: float) -> float:
        return max(demand.core_s / clock, dram_s) + launch_s

    def watts(clock: float) -> float:
        core_j = (demand.core_j + caches_j) * clock ** (power.exponent - 1)
        dynamic_j = core_j + dram_j + target.launch_j
        return float(target.static_w + dynamic_j / seconds(clock))

    clock = _highest_clock(watts, power.limit_w)
    scale = clock ** (power.exponent - 1) / power.supply_efficiency
    return Cost(
        compute_j=demand.core_j * scale,
        movement_j={
            m.name: demand.sent[m.name]
            * m.byte_j
            * (1 / power.supply_efficiency if m is dram else scale)
            for m in target.memories
        },
        launch_j=target.launch_j / power.supply_efficiency,
        static_j=(target.static_w + power.host_w) / power.supply_efficiency * seconds(clock),
        time_s=seconds(clock),
    )


def _highest_clock(watts: Callable[[float], float], limit_w: float) -> float:
    """Return the highest clock, relative to the full one, that keeps the power at the limit."""
    if watts(1.0) <= limit_w:
        return 1.0
    low, high = _LEAST_CLOCK, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if watts(middle) <= limit_w else (low, middle)
    return low
