"""What a search chooses: the precision of each region, and what is pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gcompile import ir

Setting = ir.Precision | int
"""A precision for a region; how many channels of a group, or taps of a kernel, stay; whether a
block does, 1 or 0; which of the windows of so many taps a kernel keeps, the one that loses least
being 0."""

Choice = Mapping[str, Setting]
"""A setting for each region, group, kernel and block, by name; what is left out stays as it is."""

_GROUP, _KERNEL, _BLOCK = "channels of ", "kernel of ", "block "
_WINDOW = "window of "


@dataclass(frozen=True)
class Removal:
    """What is removed from a model.

    Attributes:
        sizes: How many channels stay, by group.
        blocks: The blocks that go.
        taps: How many taps stay, by kernel.
        windows: Which window of so many taps, by kernel; 0 where it is left out.
    """

    sizes: Mapping[str, int] = field(default_factory=dict)
    blocks: tuple[str, ...] = ()
    taps: Mapping[str, int] = field(default_factory=dict)
    windows: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many groups, kernels and blocks it takes from."""
        return len(self.sizes) + len(self.blocks) + len(self.taps)

    @classmethod
    def of(cls, choice: Choice) -> Removal:
        """What a choice names; parts that stay as they are must be left out of it."""
        blocks = (name for name in choice if name.startswith(_BLOCK) and choice[name] == 0)
        return cls(
            _counts(choice, _GROUP),
            tuple(name.removeprefix(_BLOCK) for name in blocks),
            _counts(choice, _KERNEL),
            _counts(choice, _WINDOW),
        )


def group_part(name: str) -> str:
    """The name a group of channels goes by in a choice, where regions have names too."""
    return _GROUP + name


def kernel_part(name: str) -> str:
    """The name the kernel of a product goes by in a choice."""
    return _KERNEL + name


def window_part(name: str) -> str:
    """The name the window of a kernel goes by in a choice."""
    return _WINDOW + name


def block_part(name: str) -> str:
    """The name a block goes by in a choice."""
    return _BLOCK + name


def precisions_of(choice: Choice) -> dict[str, ir.Precision]:
    """The precisions alone, by region."""
    return {name: each for name, each in choice.items() if isinstance(each, ir.Precision)}


def _counts(choice: Choice, prefix: str) -> dict[str, int]:
    return {
        name.removeprefix(prefix): each
        for name, each in choice.items()
        if isinstance(each, int) and name.startswith(prefix)
    }
