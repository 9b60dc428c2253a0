"""What we know about a piece of hardware, with the source of every number."""

from gcompile.targets.calibration import Calibration, Coefficient, CoefficientSet
from gcompile.targets.detect import detect_host
from gcompile.targets.load import GPU, HOST, list_targets, load_build_target, load_target
from gcompile.targets.read import read_target
from gcompile.targets.settings import with_clock, with_power_limit
from gcompile.targets.target import (
    Array,
    Memory,
    Multiplier,
    Power,
    Source,
    Status,
    Store,
    Target,
    Unit,
)
from gcompile.targets.write import target_text, write_target

__all__ = [
    "GPU",
    "HOST",
    "Array",
    "Calibration",
    "Coefficient",
    "CoefficientSet",
    "Memory",
    "Multiplier",
    "Power",
    "Source",
    "Status",
    "Store",
    "Target",
    "Unit",
    "detect_host",
    "list_targets",
    "load_build_target",
    "load_target",
    "read_target",
    "target_text",
    "with_clock",
    "with_power_limit",
    "write_target",
]
