"""The plan of a CUDA variant: which kernels run, on which places in memory, in which order.

It is a JSON file of the artefact, written by a build and believed by nobody: `Plan.read` refuses
whatever would let a launch touch memory that is not the artefact's own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

from gcompile.errors import ArtifactError
from gcompile.runtime import untrusted
from gcompile.runtime.untrusted import REMEDY

Space = Literal["arena", "weight", "input", "output"]
Format = Literal["cubin", "ptx"]

ALIGNMENT_BYTES = 16
"""Of every argument: the most that one access of a kernel takes."""

_LARGEST_ARENA = 1 << 40
_MOST_THREADS = 1024
_LARGEST_GRID = (2**31 - 1, 65535, 65535)
_LARGEST_BLOCK = (1024, 1024, 64)
_LARGEST_SHARED = 1 << 20
_LARGEST_ARCH = 999


@dataclass(frozen=True, slots=True)
class Place:
    """Bytes of device memory.

    Attributes:
        at: The offset in bytes in the arena, or which weight, input or output it is.
    """

    space: Space
    at: int
    bytes: int


@dataclass(frozen=True, slots=True)
class PlannedKernel:
    """How a kernel is launched."""

    name: str
    grid: tuple[int, int, int]
    block: tuple[int, int, int]
    shared_bytes: int


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that a device does.

    Attributes:
        does: `launch` a kernel on places; `copy` the second place to the first; make a place
            `zero`.
        kernel: Which kernel; 0 where none is launched.
    """

    does: Literal["launch", "copy", "zero"]
    kernel: int
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Code:
    """The kernels as machine code of one architecture, or as PTX for it and newer ones.

    Attributes:
        file: Where they are, one after the other.
        arch: 80 for sm_80.
        spans: The first byte of each kernel and how many there are, in the plan's order.
    """

    file: str
    format: Format
    arch: int
    spans: tuple[tuple[int, int], ...]

    def runs_on(self, major: int, minor: int) -> bool:
        """Whether a device of this compute capability can run it."""
        if self.format == "ptx":
            return self.arch <= 10 * major + minor
        return self.arch // 10 == major and self.arch % 10 <= minor


@dataclass(frozen=True, slots=True)
class Plan:
    """One inference on a GPU.

    Attributes:
        arena_bytes: Device memory for everything that is computed on the way.
        driver: The oldest version of CUDA whose driver loads the machine code: 12000 for 12.0.
    """

    arena_bytes: int
    kernels: tuple[PlannedKernel, ...]
    steps: tuple[Step, ...]
    codes: tuple[Code, ...]
    driver: int

    @property
    def launches(self) -> int:
        """Kernels that one inference launches."""
        return sum(step.does == "launch" for step in self.steps)

    def to_text(self) -> str:
        """The plan as JSON; equal plans give equal text."""
        data = asdict(self)
        data["steps"] = [
            [step.does, step.kernel, [[p.space, p.at, p.bytes] for p in step.places]]
            for step in self.steps
        ]
        return json.dumps(data, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path, sizes: Mapping[Space, Sequence[int]]) -> Plan:
        """Read a plan and check every number in it.

        Args:
            path: The file.
            sizes: Bytes of each weight, input and output of the artefact.

        Raises:
            ArtifactError: The plan is damaged, or reaches beyond the artefact's memory.
        """
        try:
            data = json.loads(
                path.read_text(encoding="utf-8"),
                object_pairs_hook=untrusted.unique_keys,
                parse_constant=untrusted.no_constant,
            )
        except (ValueError, RecursionError, OSError) as error:
            raise ArtifactError(f"The artefact's plan {path.name} is damaged. {REMEDY}") from error
        return _plan(data, sizes)


def _plan(data: object, sizes: Mapping[Space, Sequence[int]]) -> Plan:
    entries = untrusted.mapping(data, "the plan")
    untrusted.exact_keys(entries, ["arena_bytes", "kernels", "steps", "codes", "driver"], "a plan")
    arena = untrusted.whole(entries["arena_bytes"], "arena_bytes", 0, _LARGEST_ARENA)
    kernels = tuple(_kernel(item) for item in untrusted.items(entries["kernels"], "kernels"))
    limits: dict[Space, Sequence[int]] = {**sizes, "arena": [arena]}
    return Plan(
        arena_bytes=arena,
        kernels=kernels,
        steps=tuple(
            _step(item, len(kernels), limits)
            for item in untrusted.items(entries["steps"], "steps")
        ),
        codes=tuple(
            _code(item, len(kernels)) for item in untrusted.items(entries["codes"], "codes")
        ),
        driver=untrusted.whole(entries["driver"], "driver", 0, 10**6),
    )


def _kernel(data: object) -> PlannedKernel:
    entries = untrusted.mapping(data, "a kernel")
    untrusted.exact_keys(entries, ["name", "grid", "block", "shared_bytes"], "a kernel")
    block = _triple(entries["block"], "block", _LARGEST_BLOCK)
    if block[0] * block[1] * block[2] > _MOST_THREADS:
        raise untrusted.refused(f"has a block of more than {_MOST_THREADS} threads")
    shared = untrusted.whole(entries["shared_bytes"], "shared_bytes", 0, _LARGEST_SHARED)
    name = untrusted.text(entries["name"], "a kernel's name")
    return PlannedKernel(name, _triple(entries["grid"], "grid", _LARGEST_GRID), block, shared)


def _triple(data: object, what: str, most: tuple[int, int, int]) -> tuple[int, int, int]:
    items = untrusted.items(data, what)
    if len(items) != len(most):
        raise untrusted.refused(f"has a {what} that is not three numbers")
    x, y, z = (
        untrusted.whole(item, what, 1, limit) for item, limit in zip(items, most, strict=True)
    )
    return x, y, z


def _step(data: object, kernels: int, sizes: Mapping[Space, Sequence[int]]) -> Step:
    items = untrusted.items(data, "a step")
    if len(items) != 3:
        raise untrusted.refused("has a step that is not three values")
    does, kernel, listed = items
    places = tuple(_place(item, sizes) for item in untrusted.items(listed, "places"))
    index = untrusted.whole(kernel, "a step's kernel", 0, max(kernels - 1, 0))
    if does == "launch" and kernels:
        return Step("launch", index, places)
    if does == "copy" and len(places) == 2 and places[0].bytes == places[1].bytes:
        return Step("copy", index, places)
    if does == "zero" and len(places) == 1:
        return Step("zero", index, places)
    raise untrusted.refused("has a step that nothing can do")


def _place(data: object, sizes: Mapping[Space, Sequence[int]]) -> Place:
    items = untrusted.items(data, "a place")
    if len(items) != 3 or items[0] not in get_args(Space):
        raise untrusted.refused("has a place that is none")
    space: Space = items[0]  # type: ignore[assignment]
    available = sizes[space]
    if space == "arena":
        size = untrusted.whole(items[2], "a place", 0, available[0])
        at = untrusted.whole(items[1], "a place", 0, available[0] - size)
        if at % ALIGNMENT_BYTES:
            raise untrusted.refused(f"has a place that is no multiple of {ALIGNMENT_BYTES} bytes")
        return Place(space, at, size)
    at = untrusted.whole(items[1], "a place", 0, len(available) - 1)
    return Place(space, at, untrusted.whole(items[2], "a place", available[at], available[at]))


def _code(data: object, kernels: int) -> Code:
    entries = untrusted.mapping(data, "code")
    untrusted.exact_keys(entries, ["file", "format", "arch", "spans"], "code")
    format_ = entries["format"]
    if format_ not in get_args(Format):
        raise untrusted.refused("has code of an unknown format")
    spans = [
        untrusted.items(item, "a span") for item in untrusted.items(entries["spans"], "spans")
    ]
    if len(spans) != kernels or any(len(span) != 2 for span in spans):
        raise untrusted.refused("has code that is not one piece for each kernel")
    return Code(
        file=untrusted.file_name(entries["file"]),
        format=format_,  # type: ignore[arg-type]
        arch=untrusted.whole(entries["arch"], "arch", 10, _LARGEST_ARCH),
        spans=tuple(
            (
                untrusted.whole(start, "a span", 0, _LARGEST_ARENA),
                untrusted.whole(size, "a span", 1, _LARGEST_ARENA),
            )
            for start, size in spans
        ),
    )
