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

SCHEMA_VERSION = 2
MANIFEST_NAME = "manifest.json"
WEIGHTS_NAME = "weights.bin"
DTYPES = frozenset(
    {"bool", "float16", "float32", "float64"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)

Scalar = str | int | float | bool | None

_MAX_MANIFEST_BYTES = 4 << 20
_MAX_FILE_BYTES = 1 << 40
_MAX_TENSOR_ELEMENTS = 1 << 36
_MAX_RANK = 16
_MAX_TEXT = 1000
_MAX_ENTRIES = 10_000
_MAX_THREADS = 4096
_REMEDY = "Compile the model again, or copy the artefact folder again as it was written."
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FLAG = re.compile(r"[a-z0-9_]{1,40}")


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
class Manifest:
    """Everything that loading and running an artefact needs to know.

    Attributes:
        platform: Operating system and architecture of the native code, such as `linux-x86_64`.
        isa_required: CPU flags the code uses, spelled as Linux spells them (`avx512_vnni`).
        threads: Parallel tasks the code was generated for.
        files: The files of the artefact that are checked before anything is loaded.
        library: The one of `files` that holds the native code.
        weights: The tensors in `weights.bin`, which the entry takes after the inputs.
        entry: The function that runs the model.
        needs_amx: The code asks the operating system for AMX tiles when it is loaded.
        seed: The seed of every random choice made while compiling.
        verification: How the outputs compared with the reference, as plain values.
    """

    gcompile_version: str
    tvm_version: str
    model_name: str
    target: str
    status: str
    platform: str
    isa_required: tuple[str, ...]
    threads: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    files: Mapping[str, FileRecord]
    library: str = "model.so"
    weights: tuple[TensorSpec, ...] = ()
    entry: str = "main"
    needs_amx: bool = False
    seed: int = 0
    verification: Mapping[str, Scalar] = field(default_factory=dict)
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
            raise _refused("is larger than any manifest is")
        try:
            return cls.from_text(path.read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            raise _refused("is not UTF-8 text") from error

    @classmethod
    def from_text(cls, text: str) -> Manifest:
        """Parse and validate the JSON text of a manifest.

        Raises:
            ArtifactError: The text says something a manifest must not say.
        """
        try:
            data = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _refused("is not valid JSON") from error
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
                raise ArtifactError(f"The artefact's file {name} is missing. {_REMEDY}")
            if path.resolve().parent != root:
                raise ArtifactError(f"The artefact's file {name} leads out of it. {_REMEDY}")
            if path.stat().st_size != record.bytes or FileRecord.of(path) != record:
                raise ArtifactError(
                    f"The artefact's file {name} is not the one that was compiled "
                    f"(its hash differs). {_REMEDY}"
                )


def _manifest(data: object) -> Manifest:
    entries = _mapping(data, "the manifest")
    version = entries.get("schema_version")
    if version != SCHEMA_VERSION:
        raise _refused(
            f"has schema version {version!r:.40} where this gcompile reads {SCHEMA_VERSION}"
        )
    _exact_keys(entries, [item.name for item in fields(Manifest)], "the manifest")
    files = {
        _file_name(name): _file_record(record)
        for name, record in _mapping(entries["files"], "files").items()
    }
    library = _file_name(entries["library"])
    if library not in files:
        raise _refused(f"names the library {library!r} without listing it in files")
    weights = _tensors(entries["weights"], "weights")
    if weights and WEIGHTS_NAME not in files:
        raise _refused(f"describes weights without listing {WEIGHTS_NAME} in files")
    return Manifest(
        gcompile_version=_text(entries["gcompile_version"], "gcompile_version"),
        tvm_version=_text(entries["tvm_version"], "tvm_version"),
        model_name=_text(entries["model_name"], "model_name"),
        target=_text(entries["target"], "target"),
        status=_text(entries["status"], "status"),
        platform=_text(entries["platform"], "platform"),
        isa_required=tuple(_flag(flag) for flag in _items(entries["isa_required"], "isa")),
        threads=_whole(entries["threads"], "threads", 1, _MAX_THREADS),
        inputs=_tensors(entries["inputs"], "inputs"),
        outputs=_tensors(entries["outputs"], "outputs"),
        files=files,
        library=library,
        weights=weights,
        entry=_text(entries["entry"], "entry"),
        needs_amx=_truth(entries["needs_amx"], "needs_amx"),
        seed=_whole(entries["seed"], "seed", 0, (1 << 64) - 1),
        verification={
            _text(key, "verification"): _scalar(value)
            for key, value in _mapping(entries["verification"], "verification").items()
        },
    )


def _tensors(data: object, what: str) -> tuple[TensorSpec, ...]:
    specs = tuple(_tensor(item, what) for item in _items(data, what))
    if len({spec.name for spec in specs}) != len(specs):
        raise _refused(f"lists the same name twice in {what}")
    return specs


def _tensor(data: object, what: str) -> TensorSpec:
    entries = _mapping(data, what)
    _exact_keys(entries, ["name", "dtype", "shape"], what)
    dims = _items(entries["shape"], "shape")
    if len(dims) > _MAX_RANK:
        raise _refused(f"has a shape of more than {_MAX_RANK} dimensions in {what}")
    shape = tuple(_whole(dim, "shape", 0, _MAX_TENSOR_ELEMENTS) for dim in dims)
    if math.prod(shape) > _MAX_TENSOR_ELEMENTS:
        raise _refused(f"has a tensor of absurd size in {what}")
    dtype = _text(entries["dtype"], "dtype")
    if dtype not in DTYPES:
        raise _refused(f"has the unknown dtype {dtype!r:.40} in {what}")
    return TensorSpec(_text(entries["name"], "name"), dtype, shape)


def _file_record(data: object) -> FileRecord:
    entries = _mapping(data, "files")
    _exact_keys(entries, ["sha256", "bytes"], "files")
    digest = _text(entries["sha256"], "sha256")
    if not _SHA256.fullmatch(digest):
        raise _refused("has a sha256 that is not 64 hexadecimal digits")
    return FileRecord(digest, _whole(entries["bytes"], "bytes", 0, _MAX_FILE_BYTES))


def _file_name(data: object) -> str:
    name = _text(data, "files")
    if not _FILE_NAME.fullmatch(name):
        raise _refused(f"has the file name {name!r:.60}, which is not a plain name in its folder")
    return name


def _flag(data: object) -> str:
    flag = _text(data, "isa_required")
    if not _FLAG.fullmatch(flag):
        raise _refused(f"has {flag!r:.60} in isa_required, which is not a CPU flag")
    return flag


def _mapping(data: object, what: str) -> dict[str, object]:
    if not isinstance(data, dict) or len(data) > _MAX_ENTRIES:
        raise _refused(f"has something else where {what} must be a JSON object")
    return data


def _items(data: object, what: str) -> list[object]:
    if not isinstance(data, list) or len(data) > _MAX_ENTRIES:
        raise _refused(f"has something else where {what} must be a list")
    return data


def _text(data: object, what: str) -> str:
    if not isinstance(data, str) or not 0 < len(data) <= _MAX_TEXT or "\0" in data:
        raise _refused(f"has something else where {what} must be a short text")
    return data


def _whole(data: object, what: str, low: int, high: int) -> int:
    if not isinstance(data, int) or isinstance(data, bool) or not low <= data <= high:
        raise _refused(f"has something else where {what} must be a whole number {low} to {high}")
    return data


def _truth(data: object, what: str) -> bool:
    if not isinstance(data, bool):
        raise _refused(f"has something else where {what} must be true or false")
    return data


def _scalar(data: object) -> Scalar:
    if data is not None and not isinstance(data, str | int | float):
        raise _refused("has something else where verification must hold plain values")
    return data


def _exact_keys(entries: dict[str, object], expected: list[str], what: str) -> None:
    unknown, missing = sorted(set(entries) - set(expected)), sorted(set(expected) - set(entries))
    if unknown:
        raise _refused(f"has the unknown key {unknown[0]!r:.60} in {what}")
    if missing:
        raise _refused(f"lacks the key {missing[0]!r} in {what}")


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _refused(problem: str) -> ArtifactError:
    return ArtifactError(f"The artefact's manifest {problem}. {_REMEDY}")
