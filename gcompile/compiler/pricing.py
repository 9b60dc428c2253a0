"""The model of energy of a device: where a code generator's kernels are known, they are priced."""

from __future__ import annotations

from gcompile.energy import Roofline
from gcompile.targets import Target


def energy_for(target: Target) -> Roofline:
    """The roofline, which for NVIDIA's GPUs knows how products are cut."""
    if target.kind != "gpu" or not any(flag.startswith("sm_") for flag in target.isa):
        return Roofline()
    # Most targets do without this code generator, and need not load it.
    from gcompile.backends.cuda.pricing import CudaEmission

    return Roofline(emission=CudaEmission())
