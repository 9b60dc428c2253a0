"""Which architecture of NVIDIA's a target is, as the compiler names it."""

from __future__ import annotations

import re

from gcompile.errors import TargetError
from gcompile.targets import Target

_FLAG = re.compile(r"sm_(\d{2,3})")

PLATFORM = "cuda"
"""What the manifest calls the platform of code for NVIDIA GPUs."""


def arch_of(target: Target) -> int:
    """The architecture of a GPU: 80 for sm_80.

    Raises:
        TargetError: The target does not say; none is ever assumed.
    """
    found = [match for match in map(_FLAG.fullmatch, sorted(target.isa)) if match]
    if len(found) != 1:
        raise TargetError(
            f"The target {target.name!r} does not say which architecture it is. Give its file "
            'one such as isa = ["sm_80"]; `gcompile targets show nvidia-a100-sxm-80` has an '
            "example."
        )
    return int(found[0][1])
