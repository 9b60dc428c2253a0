"""Price one kernel of an accelerator: its array, its buffer, its memory.

Products run in the format of the array, whatever the model's: there is no other unit for them.
"""

from __future__ import annotations

from dataclasses import replace

from gcompile.energy.cost import Cost
from gcompile.energy.job import Job
from gcompile.energy.spatial import row_stationary, weight_stationary
from gcompile.energy.traffic import activation_missed, resident_share
from gcompile.ir import Contraction, Precision
from gcompile.targets import Array, Target, Unit


def accelerator_cost(job: Job, target: Target, footprint_bytes: float) -> Cost:
    """Price the job on the whole accelerator.

    Args:
        job: What the kernel does.
        target: An accelerator.
        footprint_bytes: Bytes the whole model touches between two uses of the same weight.
    """
    array = target.array
    assert array is not None, "a target file without one is refused"
    unit = next(u for u in target.units if u.kind == "matrix")
    job = job.at(unit.precision)
    product = _product(job, unit, array, target, footprint_bytes)
    return product + _rest(job, target)


def _product(job: Job, unit: Unit, array: Array, target: Target, footprint_bytes: float) -> Cost:
    sizes, groups = _sizes(job)
    if sizes is None:
        return Cost()
    if array.dataflow == "row-stationary":
        cost, seconds = _row_stationary(sizes, array, target)
    else:
        cost, seconds = _weight_stationary(sizes, array, target, footprint_bytes)
    macs = sizes.m * sizes.n * sizes.k
    operations_j = 2 * macs * unit.op_j * array.operation_ratio
    return Cost(
        compute_j=groups * (operations_j + cost.compute_j),
        movement_j={name: groups * joules for name, joules in cost.movement_j.items()},
        static_j=groups * seconds * target.static_w,
        time_s=groups * seconds,
    )


def _sizes(job: Job) -> tuple[Contraction | None, int]:
    """Return one group of the product, and how many there are.

    A product without a known shape, such as one of two activations, is taken for a cube.
    """
    shape = job.contraction or job.sliding
    if shape is None:
        side = round((job.product_ops / 2) ** (1 / 3))
        return (Contraction.matmul(side, side, side) if side else None), 1
    groups = shape.groups
    return replace(shape, in_c=shape.in_c // groups, out_c=shape.out_c // groups, groups=1), groups


def _row_stationary(sizes: Contraction, array: Array, target: Target) -> tuple[Cost, float]:
    mapping = row_stationary.choose_mapping(sizes, target)
    found = row_stationary.accesses(sizes, mapping)
    buffer, dram = target.memories[0], target.memories[-1]
    joules = row_stationary.movement(found, target)
    stays = resident_share(2 * found.dram_outputs, buffer.size_bytes)
    joules[dram.name] -= stays * found.dram_outputs * (dram.write_byte_j or dram.byte_j)
    memory_bytes = found.dram_weights + found.dram_inputs + found.dram_outputs * (1 - stays)
    seconds = max(
        found.cycles / target.clock_hz,
        memory_bytes / dram.bandwidth(1, 1),
        (found.buffer_reads + found.buffer_writes) / buffer.bandwidth(1, 1),
    )
    return Cost(movement_j=joules), seconds


def _weight_stationary(
    sizes: Contraction, array: Array, target: Target, footprint_bytes: float
) -> tuple[Cost, float]:
    found = weight_stationary.conversions(sizes, array)
    buffer, dram = target.memories[0], target.memories[-1]
    cells = array.rows * array.columns * target.processors
    cold = 1 - resident_share(footprint_bytes, cells)
    image = float(sizes.batch * sizes.in_h * sizes.in_w * sizes.in_c)
    written = float(sizes.m * sizes.n)
    memory_bytes = sizes.weight_count * cold + sum(
        size * activation_missed(size, buffer.size_bytes) for size in (image, written)
    )
    converted = (
        found.inputs * array.converter_j["input"] + found.outputs * array.converter_j["output"]
    )
    moved = found.buffer_reads * buffer.byte_j
    moved += found.buffer_writes * (buffer.write_byte_j or buffer.byte_j)
    busy = min(target.processors, max(1.0, found.steps))
    seconds = max(
        found.steps / busy / target.clock_hz,
        memory_bytes / dram.bandwidth(1, 1),
        (found.buffer_reads + found.buffer_writes) / buffer.bandwidth(1, 1),
    )
    movement_j = {
        "network": (found.inputs + found.outputs) * array.noc_j,
        buffer.name: moved,
        dram.name: memory_bytes * dram.byte_j,
    }
    return Cost(compute_j=converted, movement_j=movement_j), seconds


def _rest(job: Job, target: Target) -> Cost:
    """Price what runs beside the array: activation functions, pools, and what has no product."""
    vector = target.unit_for(Precision.FP32, dense=False)
    buffer, dram = target.memories[0], target.memories[-1]
    apart = job.contraction is None and job.sliding is None and job.product_ops == 0
    vector_ops = 0 if job.sliding is not None else job.vector_ops
    sizes = job.activation_bytes if apart else ()
    through = float(sum(sizes) + job.constant_bytes)
    missed = job.constant_bytes + sum(
        size * activation_missed(size, buffer.size_bytes) for size in sizes
    )
    rate = vector.peak_ops_per_s * target.vector_efficiency
    seconds = max(
        vector_ops / rate if apart else 0.0,
        missed / dram.bandwidth(1, 1),
        through / buffer.bandwidth(1, 1),
    )
    return Cost(
        compute_j=vector_ops * vector.op_j,
        movement_j={buffer.name: through * buffer.byte_j, dram.name: missed * dram.byte_j},
        launch_j=target.launch_j if job.launches else 0.0,
        static_j=target.static_w * seconds,
        time_s=seconds + (target.launch_s if job.launches else 0.0),
    )
