"""Price one kernel, tiled in one way.

    t = max(compute, max over levels of bytes / bandwidth) + launch
    E = ops · e_op + cores · P_core · t + sum over levels of bytes · e_byte
        + e_launch + P_static · t

Operations are those the unit issues, so padding and halos are paid for. Arithmetic and the power
of the cores that run it together are the compute energy.
"""

from __future__ import annotations

import math
from dataclasses import replace

from gcompile.energy.attention import attention_compute, attention_traffic
from gcompile.energy.blocking import Blocking, blocking
from gcompile.energy.cost import Cost
from gcompile.energy.gpu import gpu_cost
from gcompile.energy.job import Job
from gcompile.energy.spatial import accelerator_cost
from gcompile.energy.traffic import traffic
from gcompile.energy.winograd import Filtering, filtering_compute, filtering_traffic
from gcompile.ir import Contraction, Precision, Tile
from gcompile.targets import Target, Unit

_ONE_STREAM = 1.6
"""How much faster the second-level cache is read in one stream than in several side by side, which
its bandwidth stands for: the first level's prefetcher follows one. Measured on Zen 5 with int8,
bf16 and fp32 weights of 0.5 MB (`benchmarks.tile_choice`)."""

_TRANSPOSING = 5
"""Passes over a vector that transpose squares of sixteen: one and log2 16."""


def kernel_cost(job: Job, tile: Tile, target: Target, footprint_bytes: float) -> Cost:
    """Price the job, cut by `tile`, on `tile.threads` cores of the target.

    Args:
        job: What the kernel does.
        tile: A legal tile of one of the target's units.
        target: The device.
        footprint_bytes: Bytes the whole model touches between two uses of the same weight.
    """
    if target.kind == "gpu":
        return gpu_cost(job, tile, target, footprint_bytes)
    if target.kind == "accelerator":
        return accelerator_cost(job, target, footprint_bytes)
    compute_s, operations_j, sent = _work(job, tile, target, footprint_bytes)
    seconds = {
        memory.name: sent[memory.name] / memory.bandwidth(tile.threads, target.cores)
        for memory in target.memories
    }
    if _reads_one_stream(job, tile, target):
        seconds[target.memories[1].name] /= _ONE_STREAM
    memory_s = max(seconds.values())
    launch_s = target.launch_s if job.launches else 0.0
    launch_s += target.parallel_launch_s if tile.threads > 1 else 0.0
    if tile.winograd:  # A block's products wait for weights that few rows use.
        compute_s += max(seconds[m.name] for m in target.memories if not m.per_core)
    time_s = max(compute_s, memory_s) + launch_s
    return Cost(
        compute_j=operations_j + tile.threads * target.core_w * time_s,
        movement_j={memory.name: sent[memory.name] * memory.byte_j for memory in target.memories},
        launch_j=target.launch_j * (launch_s / target.launch_s if target.launch_s else 1.0),
        static_j=_static_w(tile.threads, target) * time_s,
        time_s=time_s,
    )


def _reads_one_stream(job: Job, tile: Tile, target: Target) -> bool:
    """Say whether the weights are read once, all in the order in which they lie."""
    is_other = tile.winograd or tile.columns > 1 or job.attention is not None
    blocks = None if is_other else blocks_of(job, tile, target)
    return blocks is not None and blocks.row_blocks == 1 and len(target.memories) > 2


def _work(
    job: Job, tile: Tile, target: Target, footprint_bytes: float
) -> tuple[float, float, dict[str, float]]:
    """Seconds and joules of arithmetic, and the bytes that each level sends."""
    unit = target.unit_named(tile.unit)
    if job.attention is not None and unit is not None and is_blocked(unit, target):
        vector = target.unit_for(Precision.FP32, dense=False)
        computed = attention_compute(job, job.attention, tile, target, unit, vector)
        return *computed, attention_traffic(job, job.attention, tile, target, unit)
    if not tile.winograd:
        blocks = blocks_of(job, tile, target)
        sent = traffic(job, tile, blocks, target, footprint_bytes)
        return *_compute(job, tile, blocks, target), sent
    filtering = Filtering.of(_contraction(job), tile, target)
    around = replace(job, contraction=None, product_ops=0)
    seconds, joules = _compute(around, tile, None, target)
    changed_s, changed_j = filtering_compute(job, tile, target)
    # The image is read once, as any activation, and the weights are constants of another size.
    operands = replace(
        around,
        image_bytes=0,
        activation_bytes=(job.image_bytes, *job.activation_bytes),
        within=(0, *job.within) if job.within else (),
        constant_bytes=job.constant_bytes + int(filtering.weight_bytes),
    )
    footprint_bytes += max(0.0, filtering.weight_bytes - job.weight_bytes)
    sent = traffic(operands, tile, None, target, footprint_bytes)
    for level, count in filtering_traffic(job, tile, target).items():
        sent[level] += count
    return seconds + changed_s, joules + changed_j, sent


def _contraction(job: Job) -> Contraction:
    if job.contraction is None:
        raise ValueError("Winograd's algorithm needs a convolution")
    return job.contraction


def blocks_of(job: Job, tile: Tile, target: Target) -> Blocking | None:
    """Return the register blocks of the job's product, or None when it has none."""
    unit = target.unit_named(tile.unit)
    if job.blocked is None or unit is None or not is_blocked(unit, target):
        return None
    return blocking(job.blocked, tile, unit, target)


def busy_share(job: Job, tile: Tile, blocks: Blocking) -> float:
    """Return the busiest thread's share; a batch is dealt out by whole right operands."""
    if job.batch is None or job.batch.rights < tile.threads:
        return blocks.busy_share
    return math.ceil(job.batch.rights / tile.threads) / job.batch.rights


def packing_ops(job: Job) -> float:
    """Count the operations of bringing right operands into order at run time.

    Every element is loaded, shuffled with its neighbours and stored.
    """
    if job.batch is None:
        return 0.0
    elements = job.batch.contraction.weight_count * job.batch.rights
    return elements * job.precision.bits / 32 * (_TRANSPOSING if job.batch.is_transposed else 1)


def is_blocked(unit: Unit, target: Target) -> bool:
    """Say whether kernels for this unit are cut into register blocks, as ours for CPUs are."""
    return target.kind == "cpu" and (unit.kind == "simd" or unit.name.startswith("amx"))


def _compute(job: Job, tile: Tile, blocks: Blocking | None, target: Target) -> tuple[float, float]:
    """Return the seconds and joules of arithmetic."""
    share = tile.threads / target.cores
    vector = target.unit_for(Precision.FP32, dense=False)
    vector_rate = vector.peak_ops_per_s * target.vector_efficiency * share
    seconds, joules = job.vector_ops / vector_rate, job.vector_ops * vector.op_j
    unit = target.unit_named(tile.unit) or vector
    if blocks is not None:
        pairs = job.batch.pairs if job.batch is not None else 1
        cycles = blocks.cycles * pairs * busy_share(job, tile, blocks)
        seconds += cycles / (target.clock_hz * unit.efficiency)
        joules += blocks.issued_ops * pairs * unit.op_j
        packed = packing_ops(job)
        seconds, joules = seconds + packed / vector_rate, joules + packed * vector.op_j
    elif job.contraction is not None or target.kind != "cpu":
        seconds += job.product_ops / (unit.peak_ops_per_s * unit.efficiency * share)
        joules += job.product_ops * unit.op_j
    else:
        seconds += job.product_ops / vector_rate
        joules += job.product_ops * vector.op_j
    return seconds, joules


def _static_w(threads: int, target: Target) -> float:
    return target.static_w * (threads / target.cores if target.is_shared else 1.0)
