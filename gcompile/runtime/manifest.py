"""The manifest of an artefact: what it is, what it needs, and the hash of every file.

An artefact may come from anywhere, so `Manifest.read` believes nothing: unknown keys, wrong types,
absurd sizes and file names that leave the folder are all refused, each in one sentence. The hashes
find damage and accidental mix-ups; they are no signature, so load only artefacts you trust.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from gcompile.errors import ArtifactError, RunError, UnknownNameError
from gcompile.runtime import untrusted
from gcompile.runtime.entry_point import (
    ONLY_ENTRY,
    EntryPoint,
    TensorSpec,
    read_entries,
    read_tensors,
)
from gcompile.runtime.ladder import Ladder, read_ladder
from gcompile.runtime.old_manifests import translated
from gcompile.runtime.untrusted import REMEDY, Scalar

SCHEMA_VERSION = 6
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "weights.bin"

_MAX_MANIFEST_BYTES = 4 << 20
_MAX_FILE_BYTES = 1 << 40
_MAX_THREADS = 4096
_MAX_VARIANTS = 4096
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What one file of the artefact must be, byte for byte."""

    sha256: str
    bytes: int

    @classmethod
    def of(cls, path: Path) -> FileRecord:
        """Record the file as it is now."""
        with path.open("rb") as file:
            return cls(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)


@dataclass(frozen=True, slots=True)
class Variant:
    """The native code of one entry point of an artefact for one target.

    Attributes:
        entry: The entry point.
        name: What it is asked for by; no other variant of the entry point has it.
        target: The target it was compiled for.
        platform: Operating system and architecture of the code, such as `linux-x86_64`.
        isa_required: CPU flags the code uses, spelled as Linux spells them (`avx512_vnni`).
        library: The file that holds the code; entry points that differ in weights only share it.
        needs_amx: The code asks the operating system for AMX tiles when it is loaded.
        weights: Which tensors of `weights.bin` the entry takes after the inputs, in this order.
        verification: How the outputs compared with the reference, as plain values.
    """

    name: str
    target: str
    platform: str
    isa_required: tuple[str, ...]
    library: str = "model.so"
    needs_amx: bool = False
    weights: tuple[int, ...] = ()
    verification: Mapping[str, Scalar] = field(default_factory=dict)
    entry: str = ONLY_ENTRY


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that loading and running an artefact needs to know.

    Attributes:
        entries: What can be called.
        variants: The code of each entry for each target; a loader takes the first of an entry that
            its machine can run.
        threads: Parallel tasks the code was generated for.
        files: The files of the artefact that are checked before anything is loaded.
        weights: The tensors in `weights.bin`; variants may share some.
        seed: The seed of every random choice made while compiling.
        ladder: Says that the entries are one model at several sizes; None where they are not.
    """

    gcompile_version: str
    tvm_version: str
    status: str
    entries: tuple[EntryPoint, ...]
    variants: tuple[Variant, ...]
    threads: int
    files: Mapping[str, FileRecord]
    weights: tuple[TensorSpec, ...] = ()
    seed: int = 0
    ladder: Ladder | None = None
    schema_version: int = SCHEMA_VERSION

    def entry_point(self, name: str | None = None) -> EntryPoint:
        """The entry point of that name; without a name, the only one there is.

        Raises:
            UnknownNameError: The artefact has no entry point of that name.
            RunError: It has several, and none is named.
        """
        known = {entry.name: entry for entry in self.entries}
        if name is None and len(known) > 1:
            raise RunError(
                f"The artefact has several entry points, {', '.join(known)}; name one of them "
                "with entry=NAME, or --entry NAME."
            )
        if name is not None and name not in known:
            raise UnknownNameError("entry point", name, known)
        return self.entries[0] if name is None else known[name]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read and validate `manifest.json` of an artefact folder.

        Raises:
            ArtifactError: The manifest is missing, damaged, or says something it must not.
        """
        path = folder / MANIFEST_NAME
        if not path.is_file():
            raise ArtifactError(
                f"{folder} has no {MANIFEST_NAME}, so it is not an artefact; "
                "give the folder that `gcompile build` wrote."
            )
        if path.stat().st_size > _MAX_MANIFEST_BYTES:
            raise untrusted.refused("is larger than any manifest is")
        try:
            return cls.from_text(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise untrusted.refused("is not UTF-8 text") from error

    @classmethod
    def from_text(cls, text: str) -> Manifest:
        """Parse and validate the JSON text of a manifest.

        Raises:
            ArtifactError: The text says something a manifest must not say.
        """
        try:
            data = json.loads(
                text,
                object_pairs_hook=untrusted.unique_keys,
                parse_constant=untrusted.no_constant,
            )
        except (ValueError, RecursionError) as error:
            raise untrusted.refused("is not valid JSON") from error
        return _manifest(data)

    def to_text(self) -> str:
        """The manifest as JSON with sorted keys: equal manifests give equal text."""
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"

    def write(self, folder: Path) -> None:
        """Write `manifest.json` into the folder, refusing what `read` would refuse."""
        text = self.to_text()
        self.from_text(text)
        (folder / MANIFEST_NAME).write_text(text, encoding="utf-8")

    def check_files(self, folder: Path) -> None:
        """Compare every listed file with its recorded size and hash.

        Raises:
            ArtifactError: A file is missing, lies outside the folder, or was changed.
        """
        root = folder.resolve()
        for name, record in self.files.items():
            path = folder / name
            if not path.is_file():
                raise ArtifactError(f"The artefact's file {name} is missing. {REMEDY}")
            if path.resolve().parent != root:
                raise ArtifactError(f"The artefact's file {name} leads out of it. {REMEDY}")
            if path.stat().st_size != record.bytes or FileRecord.of(path) != record:
                raise ArtifactError(
                    f"The artefact's file {name} is not the one that was compiled "
                    f"(its hash differs). {REMEDY}"
                )


def _manifest(data: object) -> Manifest:
    entries = untrusted.mapping(data, "the manifest")
    entries = translated(entries, SCHEMA_VERSION)
    untrusted.exact_keys(entries, [item.name for item in fields(Manifest)], "the manifest")
    files = {
        untrusted.file_name(name): _file_record(record)
        for name, record in untrusted.mapping(entries["files"], "files").items()
    }
    weights = read_tensors(entries["weights"], "weights")
    points = read_entries(entries["entries"])
    if weights and WEIGHTS_NAME not in files:
        raise untrusted.refused(f"describes weights without listing {WEIGHTS_NAME} in files")
    return Manifest(
        gcompile_version=untrusted.text(entries["gcompile_version"], "gcompile_version"),
        tvm_version=untrusted.text(entries["tvm_version"], "tvm_version"),
        status=untrusted.text(entries["status"], "status"),
        entries=points,
        variants=_variants(entries["variants"], files, len(weights), points),
        threads=untrusted.whole(entries["threads"], "threads", 1, _MAX_THREADS),
        files=files,
        weights=weights,
        seed=untrusted.whole(entries["seed"], "seed", 0, (1 << 64) - 1),
        ladder=read_ladder(entries["ladder"], points),
    )


def _variants(
    data: object,
    files: Mapping[str, FileRecord],
    weight_count: int,
    entries: tuple[EntryPoint, ...],
) -> tuple[Variant, ...]:
    listed = untrusted.items(data, "variants")
    if not 0 < len(listed) <= _MAX_VARIANTS:
        raise untrusted.refused(f"lists {len(listed)} variants, not 1 to {_MAX_VARIANTS}")
    variants = tuple(_variant(item, files, weight_count) for item in listed)
    if len({(variant.entry, variant.name) for variant in variants}) != len(variants):
        raise untrusted.refused("lists the same name twice in variants")
    if {variant.entry for variant in variants} != {entry.name for entry in entries}:
        raise untrusted.refused("lists variants of other entries than it has")
    return variants


def _variant(data: object, files: Mapping[str, FileRecord], weight_count: int) -> Variant:
    entries = untrusted.mapping(data, "a variant")
    untrusted.exact_keys(entries, [item.name for item in fields(Variant)], "a variant")
    library = untrusted.file_name(entries["library"])
    if library not in files:
        raise untrusted.refused(f"names the library {library!r} without listing it in files")
    isa = untrusted.items(entries["isa_required"], "isa_required")
    weights = untrusted.items(entries["weights"], "a variant's weights")
    return Variant(
        name=untrusted.text(entries["name"], "name"),
        target=untrusted.text(entries["target"], "target"),
        platform=untrusted.text(entries["platform"], "platform"),
        isa_required=tuple(untrusted.flag(flag) for flag in isa),
        library=library,
        needs_amx=untrusted.truth(entries["needs_amx"], "needs_amx"),
        weights=tuple(
            untrusted.whole(index, "a variant's weights", 0, weight_count - 1) for index in weights
        ),
        verification={
            untrusted.text(key, "verification"): untrusted.scalar(value)
            for key, value in untrusted.mapping(entries["verification"], "verification").items()
        },
        entry=untrusted.text(entries["entry"], "a variant's entry"),
    )


def _file_record(data: object) -> FileRecord:
    entries = untrusted.mapping(data, "files")
    untrusted.exact_keys(entries, ["sha256", "bytes"], "files")
    digest = untrusted.text(entries["sha256"], "sha256")
    if not _SHA256.fullmatch(digest):
        raise untrusted.refused("has a sha256 that is not 64 hexadecimal digits")
    return FileRecord(digest, untrusted.whole(entries["bytes"], "bytes", 0, _MAX_FILE_BYTES))
