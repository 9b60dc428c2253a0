"""The asynchronous products of groups of warps, as the interpreter follows them."""

from __future__ import annotations

from dataclasses import dataclass, field

from gcompile.backends.cuda.program.memory import AccessError
from gcompile.backends.cuda.program.operations import Array


@dataclass
class Groups:
    """The `wgmma` instructions under way: what they read, and the registers they add to."""

    touched: set[str] = field(default_factory=set)
    open: list[tuple[str, list[tuple[Array, Array, Array]]]] = field(default_factory=list)
    committed: list[list[tuple[str, list[tuple[Array, Array, Array]]]]] = field(
        default_factory=list
    )

    def start(self, name: str, reads: list[tuple[Array, Array, Array]]) -> None:
        """Begin to add to registers.

        Raises:
            AccessError: They were written since the last fence.
        """
        if name in self.touched:
            raise AccessError(f"wgmma adds to {name} without a fence after it was written.")
        self.open.append((name, reads))

    def commit(self) -> None:
        """Close the group of products that were begun."""
        self.committed.append(self.open)
        self.open = []

    def wait(self, pending: int) -> list[tuple[Array, Array, Array]]:
        """Finish all but the latest groups; return what they have read."""
        done = max(0, len(self.committed) - pending)
        reads = [read for group in self.committed[:done] for _, both in group for read in both]
        self.committed = self.committed[done:]
        return reads

    def need_done(self, name: str) -> None:
        """Check that registers may be used.

        Raises:
            AccessError: A product still adds to them.
        """
        if any(name == running for group in (self.open, *self.committed) for running, _ in group):
            raise AccessError(f"{name} is used while wgmma still adds to it.")
