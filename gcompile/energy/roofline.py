"""The slower of compute and memory sets the time; every operation and byte has its price.

t = max(ops / (peak · efficiency), max over levels of bytes / bandwidth) + t_launch
E = ops · e_op + sum over levels of bytes · e_byte + e_launch + P_static · t
"""

from __future__ import annotations

from dataclasses import dataclass

from gcompile import ir
from gcompile.energy.cost import Cost
from gcompile.targets import Target


@dataclass(frozen=True)
class Roofline:
    """Price a region from its work."""

    name: str = "roofline"

    def price(self, region: ir.Region, target: Target, threads: int) -> Cost:
        """Price one region run by `threads` cores of the target."""
        work = ir.work_of(region)
        if work.is_view:
            return Cost()
        unit = target.unit_for(work.precision)
        vector = target.unit_for(ir.Precision.FP32, dense=False)
        memory = target.memories[-1]
        compute_s = work.product_ops / (unit.peak_ops_per_s * unit.efficiency)
        compute_s += work.vector_ops / (vector.peak_ops_per_s * vector.efficiency)
        compute_s *= target.cores / min(threads, target.cores)
        time_s = max(compute_s, work.moved_bytes / memory.bytes_per_s) + target.launch_s
        return Cost(
            compute_j=work.product_ops * unit.op_j + work.vector_ops * vector.op_j,
            movement_j={memory.name: work.moved_bytes * memory.byte_j},
            launch_j=target.launch_j,
            static_j=target.static_w * time_s,
            time_s=time_s,
        )
