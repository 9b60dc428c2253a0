"""What a search chooses: the precision of each region, and what is pruned."""

from __future__ import annotations

from collections.abc import Mapping

from gcompile import ir

Setting = ir.Precision | int
"""A precision for a region; how many channels of a group stay; whether a block does, 1 or 0."""

Choice = Mapping[str, Setting]
"""A setting for each region, group and block, by name; what is left out stays as it is."""

_GROUP, _BLOCK = "channels of ", "block "


def group_part(name: str) -> str:
    """The name a group of channels goes by in a choice, where regions have names too."""
    return _GROUP + name


def block_part(name: str) -> str:
    """The name a block goes by in a choice."""
    return _BLOCK + name


def precisions_of(choice: Choice) -> dict[str, ir.Precision]:
    """The precisions alone, by region."""
    return {name: each for name, each in choice.items() if isinstance(each, ir.Precision)}


def sizes_of(choice: Choice) -> dict[str, int]:
    """How many channels stay, by group."""
    return {
        name.removeprefix(_GROUP): each
        for name, each in choice.items()
        if isinstance(each, int) and name.startswith(_GROUP)
    }


def removed_blocks(choice: Choice) -> list[str]:
    """The blocks that go."""
    return [
        name.removeprefix(_BLOCK)
        for name, each in choice.items()
        if name.startswith(_BLOCK) and each == 0
    ]
