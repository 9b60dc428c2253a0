"""What we know about a piece of hardware, with the source of every number."""

from gcompile.targets.detect import detect_host
from gcompile.targets.load import HOST, list_targets, load_target
from gcompile.targets.read import read_target
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

__all__ = [
    "HOST",
    "Array",
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
    "load_target",
    "read_target",
]
