"""Find a target by name, or read it from a file."""

from __future__ import annotations

import difflib
from pathlib import Path

from gcompile.errors import UnknownNameError
from gcompile.targets.detect import detect_host
from gcompile.targets.detect_gpu import detect_gpu, why_no_gpu_is_known
from gcompile.targets.read import SHIPPED, read_target
from gcompile.targets.target import Target

HOST = "cpu"
"""The name of the machine this runs on."""

GPU = "cuda"
"""The name of the NVIDIA GPU of this machine."""

_ALIASES = {
    "x86-64-v3": "generic-x86-avx2",
    "x86-64-v4": "generic-x86-avx512",
    "nvidia-a100": "nvidia-a100-sxm-80",
    "nvidia-h100": "nvidia-h100-sxm",
    "nvidia-h200": "nvidia-h200-sxm",
    "nvidia-rtx-4090": "nvidia-rtx4090",
    "nvidia-jetson-agx-orin": "nvidia-jetson-agx-orin-64",
}
"""Other names of shipped targets: levels of x86, and cards without their variant."""

GPU_ELSEWHERE = "nvidia-a100-sxm-80"
"""What `cuda` stands for in a build without a GPU: PTX of its architecture, sm_80, runs on all
newer ones."""


def load_target(name: str | Path) -> Target:
    """Return a target: `cpu` or `cuda` for this machine, a name of `list_targets()`, or a file.

    Raises:
        UnknownNameError: No target has that name; the nearest one is suggested.
        TargetError: The file is wrong, and the message names the key; or there is no GPU here.
    """
    if name == HOST:
        return detect_host()
    if name == GPU:
        return detect_gpu(load_target)
    if isinstance(name, Path) or name.endswith(".toml"):
        return read_target(Path(name))
    path = SHIPPED / f"{_ALIASES.get(name, name)}.toml"
    if name not in list_targets():
        raise _unknown(name)
    return read_target(path)


def load_build_target(name: str | Path) -> tuple[Target, str]:
    """Return the target to build for, and a note where it is not what the name says.

    Without a GPU, `cuda` stands for `GPU_ELSEWHERE`, and the note says so; everything else is as
    `load_target` has it.

    Raises:
        UnknownNameError: No target has that name.
        TargetError: The file is wrong, or the GPU here has no description.
    """
    if name == GPU and (reason := why_no_gpu_is_known()):
        target = read_target(SHIPPED / f"{GPU_ELSEWHERE}.toml")
        return target, (
            f"{reason}, so 'cuda' stands for {GPU_ELSEWHERE} ({', '.join(sorted(target.isa))}). "
            "Name the card with --target to build for another."
        )
    return load_target(name), ""


def list_targets() -> tuple[str, ...]:
    """Return every name `load_target` knows, except `cuda`, which not every machine has."""
    return tuple(sorted([HOST, *_ALIASES, *(path.stem for path in SHIPPED.glob("*.toml"))]))


def _unknown(name: str) -> UnknownNameError:
    known = list_targets()
    error = UnknownNameError("target", name, known)
    holding = [candidate for candidate in known if name and name in candidate]
    if near := holding or difflib.get_close_matches(name, known, n=1):
        error.args = (f"{error} Did you mean {near[0]!r}?",)
    return error
