"""Which variant of an artefact a machine runs."""

from __future__ import annotations

from collections.abc import Iterable

from gcompile.errors import ArtifactError, UnknownNameError
from gcompile.runtime import untrusted
from gcompile.runtime.cuda.device import why_no_gpu
from gcompile.runtime.isa import why_not_here
from gcompile.runtime.manifest import Manifest, Variant

CUDA = "cuda"
"""The platform of code for NVIDIA GPUs; what it requires is one architecture such as `sm_80`."""


def best_first(variants: Iterable[Variant]) -> tuple[Variant, ...]:
    """The order in which a manifest lists variants: the more a variant needs, the earlier.

    A machine with all the instruction sets of one variant often has those of others too; the code
    that uses most of them is the fastest. Equals keep their order. Code for GPUs comes first, and
    among it that for the newest, since newer GPUs may run older code as well.
    """
    return tuple(sorted(variants, key=_needs))


def runnable_variants(
    manifest: Manifest, entry: str, name: str | None, flags: frozenset[str]
) -> list[Variant]:
    """The variants that a machine with these CPU flags can execute, in the manifest's order.

    Args:
        manifest: What the artefact says of itself.
        entry: The entry point, which is one of the manifest's.
        name: The one variant that was asked for; None means any.
        flags: The CPU flags this machine has.

    Raises:
        ArtifactError: There is none; the message says what each of them lacks.
        UnknownNameError: The artefact has no variant of that name.
    """
    listed_there = [variant for variant in manifest.variants if variant.entry == entry]
    known = {variant.name: variant for variant in listed_there}
    if name is not None and name not in known:
        raise UnknownNameError("variant", name, known)
    wanted = listed_there if name is None else [known[name]]
    reasons = {variant.name: _why_not(variant, flags) for variant in wanted}
    found = [variant for variant in wanted if not reasons[variant.name]]
    if found:
        return found
    listed = "; ".join(
        f"variant {name!r}: {reason}" if len(known) > 1 else reason
        for name, reason in reasons.items()
    )
    raise ArtifactError(
        f"The artefact cannot run here: {listed}; compile the model for this machine with "
        "`--target cpu`."
    )


def arch_of(variant: Variant) -> int:
    """The architecture of code for GPUs: 80 for sm_80.

    Raises:
        ArtifactError: The variant does not say one.
    """
    flags = [flag.removeprefix("sm_") for flag in variant.isa_required]
    if len(flags) != 1 or not flags[0].isdecimal():
        raise untrusted.refused("does not say which GPUs a variant is for")
    return int(flags[0])


def _needs(variant: Variant) -> tuple[int, int]:
    if variant.platform == CUDA:
        return -1, -arch_of(variant)
    return 0, -len(variant.isa_required)


def _why_not(variant: Variant, flags: frozenset[str]) -> str:
    if variant.platform == CUDA:
        return why_no_gpu(arch_of(variant))
    return why_not_here(variant.platform, variant.isa_required, flags)
