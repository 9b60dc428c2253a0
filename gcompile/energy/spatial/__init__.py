"""Price accelerators that are arrays of processing elements: estimates only, no code for them."""

from gcompile.energy.spatial.accelerator import accelerator_cost
from gcompile.energy.spatial.row_stationary import Accesses, Mapping, accesses, choose_mapping

__all__ = ["Accesses", "Mapping", "accelerator_cost", "accesses", "choose_mapping"]
