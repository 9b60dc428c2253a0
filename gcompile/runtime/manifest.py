"""The manifest of an artefact: what it is, what it needs, and the hash of every file.

An artefact may come from anywhere, so `Manifest.read` believes nothing: unknown keys, wrong types,
absurd sizes and file names that leave the folder are all refused, each in one sentence. The hashes
find damage and accidental mix-ups; they are no signature, so load only artefacts you trust.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from gcompile.errors import ArtifactError
from gcompile.runtime import untrusted
from gcompile.runtime.untrusted import REMEDY, Scalar

SCHEMA_VERSION = 3
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "weights.bin"
DTYPES = frozenset(
    {"bool", "bfloat16", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)

_MAX_MANIFEST_BYTES = 4 << 20
_MAX_FILE_BYTES = 1 << 40
_MAX_TENSOR_ELEMENTS = 1 << 36
_MAX_RANK = 16
_MAX_THREADS = 4096
_MAX_VARIANTS = 64
_ONE_VARIANT_VERSION = 2
_OF_THE_VARIANT = ("target", "platform", "isa_required", "library", "needs_amx", "verification")
"""What schema version 2 said of the whole artefact, which then had one variant."""
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output: its name, numpy dtype name and static shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


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
    """The native code of an artefact for one target.

    Attributes:
        name: What it is asked for by; no other variant of the artefact has it.
        target: The target it was compiled for.
        platform: Operating system and architecture of the code, such as `linux-x86_64`.
        isa_required: CPU flags the code uses, spelled as Linux spells them (`avx512_vnni`).
        library: The file that holds the code.
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


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything that loading and running an artefact needs to know.

    Attributes:
        variants: The code for each target; a loader takes the first that its machine can run.
        threads: Parallel tasks the code was generated for.
        files: The files of the artefact that are checked before anything is loaded.
        weights: The tensors in `weights.bin`; variants may share some.
        entry: The function that runs the model.
        seed: The seed of every random choice made while compiling.
    """

    gcompile_version: str
    tvm_version: str
    model_name: str
    status: str
    variants: tuple[Variant, ...]
    threads: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: Mapping[str, FileRecord]
    weights: tuple[TensorSpec, ...] = ()
    entry: str = "main"
    seed: int = 0
    schema_version: int = SCHEMA_VERSION

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
    version = entries.get("schema_version")
    if version == _ONE_VARIANT_VERSION:
        entries = _with_variants(entries)
    elif version != SCHEMA_VERSION:
        raise untrusted.refused(
            f"has schema version {version!r:.40} where this gcompile reads "
            f"{_ONE_VARIANT_VERSION} and {SCHEMA_VERSION}"
        )
    untrusted.exact_keys(entries, [item.name for item in fields(Manifest)], "the manifest")
    files = {
        untrusted.file_name(name): _file_record(record)
        for name, record in untrusted.mapping(entries["files"], "files").items()
    }
    weights = _tensors(entries["weights"], "weights")
    if weights and WEIGHTS_NAME not in files:
        raise untrusted.refused(f"describes weights without listing {WEIGHTS_NAME} in files")
    return Manifest(
        gcompile_version=untrusted.text(entries["gcompile_version"], "gcompile_version"),
        tvm_version=untrusted.text(entries["tvm_version"], "tvm_version"),
        model_name=untrusted.text(entries["model_name"], "model_name"),
        status=untrusted.text(entries["status"], "status"),
        variants=_variants(entries["variants"], files, len(weights)),
        threads=untrusted.whole(entries["threads"], "threads", 1, _MAX_THREADS),
        inputs=_tensors(entries["inputs"], "inputs"),
        outputs=_tensors(entries["outputs"], "outputs"),
        files=files,
        weights=weights,
        entry=untrusted.text(entries["entry"], "entry"),
        seed=untrusted.whole(entries["seed"], "seed", 0, (1 << 64) - 1),
    )


def _with_variants(entries: dict[str, object]) -> dict[str, object]:
    """The entries of an artefact of schema version 2, as the version of today says the same."""
    if "variants" in entries:
        raise untrusted.refused("lists variants, which its schema version does not know")
    kept = {key: value for key, value in entries.items() if key not in _OF_THE_VARIANT}
    variant = {key: entries[key] for key in _OF_THE_VARIANT if key in entries}
    variant["name"] = variant.get("target")
    variant["weights"] = list(range(len(untrusted.items(entries.get("weights"), "weights"))))
    return kept | {"schema_version": SCHEMA_VERSION, "variants": [variant]}


def _variants(
    data: object, files: Mapping[str, FileRecord], weight_count: int
) -> tuple[Variant, ...]:
    listed = untrusted.items(data, "variants")
    if not 0 < len(listed) <= _MAX_VARIANTS:
        raise untrusted.refused(f"lists {len(listed)} variants, not 1 to {_MAX_VARIANTS}")
    variants = tuple(_variant(item, files, weight_count) for item in listed)
    if len({variant.name for variant in variants}) != len(variants):
        raise untrusted.refused("lists the same name twice in variants")
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
    )


def _tensors(data: object, what: str) -> tuple[TensorSpec, ...]:
    specs = tuple(_tensor(item, what) for item in untrusted.items(data, what))
    if len({spec.name for spec in specs}) != len(specs):
        raise untrusted.refused(f"lists the same name twice in {what}")
    return specs


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


def _file_record(data: object) -> FileRecord:
    entries = untrusted.mapping(data, "files")
    untrusted.exact_keys(entries, ["sha256", "bytes"], "files")
    digest = untrusted.text(entries["sha256"], "sha256")
    if not _SHA256.fullmatch(digest):
        raise untrusted.refused("has a sha256 that is not 64 hexadecimal digits")
    return FileRecord(digest, untrusted.whole(entries["bytes"], "bytes", 0, _MAX_FILE_BYTES))
