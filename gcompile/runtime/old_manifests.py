"""Manifests that older versions wrote, as the version of today says the same."""

from __future__ import annotations

from gcompile.runtime import untrusted
from gcompile.runtime.entry_point import ONLY_ENTRY

_ONE_VARIANT_VERSION = 2
_ONE_ENTRY_VERSION = 3
_KNOWN_SIZES_VERSION = 5
_OF_THE_VARIANT = ("target", "platform", "isa_required", "library", "needs_amx", "verification")
"""What schema version 2 said of the whole artefact, which then had one variant."""
_OF_THE_ENTRY = ("model_name", "inputs", "outputs")
"""What schema version 3 said of the whole artefact, which then had one entry point."""


def translated(entries: dict[str, object], newest: int) -> dict[str, object]:
    """The entries of a manifest of any version that is known.

    Raises:
        ArtifactError: Its version is not known, or it says what its version cannot say.
    """
    version = entries.get("schema_version")
    if version == newest:
        return entries
    if version not in range(_ONE_VARIANT_VERSION, newest):
        raise untrusted.refused(
            f"has schema version {version!r:.40} where this gcompile reads "
            f"{_ONE_VARIANT_VERSION} to {newest}"
        )
    if version == _ONE_VARIANT_VERSION:
        entries = _with_variants(entries)
    if version in (_ONE_VARIANT_VERSION, _ONE_ENTRY_VERSION):
        entries = _with_entries(entries)
    if version != _KNOWN_SIZES_VERSION:
        entries = _with_ladder(entries)
    return _with_counts(entries) | {"schema_version": newest}


def _with_counts(entries: dict[str, object]) -> dict[str, object]:
    """Outputs of schema version 5 are as large as it says."""
    points = [
        untrusted.mapping(point, "an entry")
        for point in untrusted.items(entries.get("entries"), "entries")
    ]
    if any("counts" in point for point in points):
        raise untrusted.refused("has counts, which its schema version does not know")
    return entries | {"entries": [point | {"counts": []} for point in points]}


def _with_ladder(entries: dict[str, object]) -> dict[str, object]:
    """An artefact of schema version 4 has one size."""
    if "ladder" in entries:
        raise untrusted.refused("has a ladder, which its schema version does not know")
    return entries | {"ladder": None}


def _with_variants(entries: dict[str, object]) -> dict[str, object]:
    """The entries of an artefact of schema version 2, as the version of today says the same."""
    if "variants" in entries:
        raise untrusted.refused("lists variants, which its schema version does not know")
    kept = {key: value for key, value in entries.items() if key not in _OF_THE_VARIANT}
    variant = {key: entries[key] for key in _OF_THE_VARIANT if key in entries}
    variant["name"] = variant.get("target")
    variant["weights"] = list(range(len(untrusted.items(entries.get("weights"), "weights"))))
    return kept | {"variants": [variant]}


def _with_entries(entries: dict[str, object]) -> dict[str, object]:
    """The entries of an artefact of schema version 3, as the version of today says the same."""
    if "entries" in entries:
        raise untrusted.refused("lists entries, which its schema version does not know")
    if entries.get("entry") != ONLY_ENTRY:
        raise untrusted.refused(f"names another entry than {ONLY_ENTRY!r}")
    kept = {key: value for key, value in entries.items() if key not in (*_OF_THE_ENTRY, "entry")}
    only = {key: entries[key] for key in _OF_THE_ENTRY if key in entries}
    variants = [
        {"entry": ONLY_ENTRY, **untrusted.mapping(variant, "a variant")}
        for variant in untrusted.items(entries.get("variants"), "variants")
    ]
    return kept | {
        "entries": [{"name": ONLY_ENTRY, **only}],
        "variants": variants,
    }
