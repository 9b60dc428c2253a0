"""What can be called in an artefact: its inputs and outputs, with types and shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from gcompile.runtime import untrusted
from gcompile.runtime.counts import Count, read_counts

ONLY_ENTRY = "main"
"""The name of the entry point of an artefact that was made of one model."""

DTYPES = frozenset(
    {"bool", "bfloat16", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)

_MAX_TENSOR_ELEMENTS = 1 << 36
_MAX_RANK = 16
_MAX_ENTRIES = 1024


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: its name, numpy dtype name and static shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class EntryPoint:
    """One function of an artefact.

    Attributes:
        name: What it is asked for by; no other entry point of the artefact has it.
        model_name: What the user calls the model it was compiled from.
        outputs: What the code returns, in this order.
        counts: Outputs that are buffers, and those that only count what is in them.
    """

    name: str
    model_name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    counts: tuple[Count, ...] = ()

    @property
    def returned(self) -> tuple[TensorSpec, ...]:
        """The model's outputs; the sizes of those that are counted are the largest ones."""
        counting = {item.count for item in self.counts}
        return tuple(spec for spec in self.outputs if spec.name not in counting)


def read_entries(data: object) -> tuple[EntryPoint, ...]:
    """Validate the entry points of a manifest.

    Raises:
        ArtifactError: There is none, or they say something a manifest must not say.
    """
    listed = untrusted.items(data, "entries")
    if not 0 < len(listed) <= _MAX_ENTRIES:
        raise untrusted.refused(f"lists {len(listed)} entries, not 1 to {_MAX_ENTRIES}")
    entries = tuple(_entry(item) for item in listed)
    if len({entry.name for entry in entries}) != len(entries):
        raise untrusted.refused("lists the same name twice in entries")
    return entries


def read_tensors(data: object, what: str) -> tuple[TensorSpec, ...]:
    """Validate a list of tensors.

    Raises:
        ArtifactError: It says something a manifest must not say.
    """
    specs = tuple(_tensor(item, what) for item in untrusted.items(data, what))
    if len({spec.name for spec in specs}) != len(specs):
        raise untrusted.refused(f"lists the same name twice in {what}")
    return specs


def _entry(data: object) -> EntryPoint:
    entries = untrusted.mapping(data, "an entry")
    untrusted.exact_keys(entries, [item.name for item in fields(EntryPoint)], "an entry")
    outputs = read_tensors(entries["outputs"], "outputs")
    return EntryPoint(
        name=untrusted.text(entries["name"], "an entry's name"),
        model_name=untrusted.text(entries["model_name"], "model_name"),
        inputs=read_tensors(entries["inputs"], "inputs"),
        outputs=outputs,
        counts=read_counts(entries["counts"], {spec.name: len(spec.shape) for spec in outputs}),
    )


def _tensor(data: object, what: str) -> TensorSpec:
    entries = untrusted.mapping(data, what)
    untrusted.exact_keys(entries, ["name", "dtype", "shape"], what)
    dims = untrusted.items(entries["shape"], "shape")
    if len(dims) > _MAX_RANK:
        raise untrusted.refused(f"has a shape of more than {_MAX_RANK} dimensions in {what}")
    shape = tuple(untrusted.whole(dim, "shape", 0, _MAX_TENSOR_ELEMENTS) for dim in dims)
    if math.prod(shape) > _MAX_TENSOR_ELEMENTS:
        raise untrusted.refused(f"has a tensor of absurd size in {what}")
    dtype = untrusted.text(entries["dtype"], "dtype")
    if dtype not in DTYPES:
        raise untrusted.refused(f"has the unknown dtype {dtype!r:.40} in {what}")
    return TensorSpec(untrusted.text(entries["name"], "name"), dtype, shape)
