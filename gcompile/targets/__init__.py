"""What we know about a piece of hardware, with the source of every number."""

from gcompile.targets.target import Memory, Source, Status, Target, Unit

__all__ = ["Memory", "Source", "Status", "Target", "Unit"]
