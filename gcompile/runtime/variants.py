"""Which variant of an artefact a machine runs."""

from __future__ import annotations

from collections.abc import Iterable

from gcompile.errors import ArtifactError, UnknownNameError
from gcompile.runtime.isa import why_not_here
from gcompile.runtime.manifest import Manifest, Variant


def best_first(variants: Iterable[Variant]) -> tuple[Variant, ...]:
    """The order in which a manifest lists variants: the more a variant needs, the earlier.

    A machine with all the instruction sets of one variant often has those of others too; the code
    that uses most of them is the fastest. Equals keep their order.
    """
    return tuple(sorted(variants, key=lambda variant: -len(variant.isa_required)))


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
    reasons = {
        variant.name: why_not_here(variant.platform, variant.isa_required, flags)
        for variant in wanted
    }
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
