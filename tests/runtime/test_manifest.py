"""The manifest says everything it must, and nothing else gets past it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gcompile.errors import ArtifactError
from gcompile.runtime import FileRecord, Manifest, TensorSpec, Variant
from gcompile.runtime.manifest import MANIFEST_NAME


def _manifest() -> Manifest:
    return Manifest(
        gcompile_version="0.1.0",
        tvm_version="0.27.0",
        model_name="m",
        status="met",
        variants=(
            Variant(
                name="cpu",
                target="cpu",
                platform="linux-x86_64",
                isa_required=("avx2",),
                weights=(0,),
                verification={"max_error": 1e-6},
            ),
        ),
        threads=2,
        inputs=(TensorSpec("x", "float32", (1, 3)),),
        outputs=(TensorSpec("y", "int64", ()),),
        files={name: FileRecord("0" * 64, 10) for name in ("model.so", "weights.bin")},
        weights=(TensorSpec("weight0", "float32", (2,)),),
    )


def _changed(path: str, value: Any) -> str:
    """The JSON text of a valid manifest after setting the entry at a slash-separated path."""
    data = json.loads(_manifest().to_text())
    *parents, last = path.split("/")
    place = data
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    place[last] = value
    return json.dumps(data)


def test_a_manifest_survives_writing_and_reading(tmp_path: Path) -> None:
    _manifest().write(tmp_path)
    assert Manifest.read(tmp_path) == _manifest()


@pytest.mark.parametrize(
    ("path", "value", "problem"),
    [
        ("extra", 1, "unknown key 'extra'"),
        ("inputs/0/layout", "nhwc", "unknown key 'layout'"),
        ("schema_version", 1, "schema version 1"),
        ("schema_version", {}, "schema version"),
        ("threads", 0, "threads"),
        ("threads", True, "threads"),
        ("threads", "2", "threads"),
        ("threads", 1e3, "threads"),
        ("variants/0/needs_amx", "no", "needs_amx"),
        ("model_name", "", "model_name"),
        ("model_name", "a" * 2000, "model_name"),
        ("entry", "main\0", "entry"),
        ("variants/0/isa_required", "avx2", "isa"),
        ("variants/0/isa_required", ["avx2; rm"], "not a CPU flag"),
        ("inputs", {}, "inputs"),
        ("inputs/0/dtype", "object", "unknown dtype"),
        ("inputs/0/shape", [-1], "shape"),
        ("inputs/0/shape", [2**30, 2**30], "absurd size"),
        ("inputs/0/shape", [1] * 40, "dimensions"),
        ("files/model.so/sha256", "xyz", "sha256"),
        ("files/model.so/bytes", -1, "bytes"),
        ("variants/0/library", "other.so", "without listing it"),
        ("variants/0/library", "../model.so", "plain name"),
        ("variants/0/verification/nested", {"a": 1}, "plain values"),
        ("variants/0/weights", [1], "weights"),
        ("variants/0/weights", [-1], "weights"),
        ("variants/0/weights", [True], "weights"),
        ("variants/0/name", "", "name"),
        ("variants/0/extra", 1, "unknown key 'extra'"),
        ("variants", ["cpu"], "a variant"),
        ("variants", [], "0 variants"),
        ("variants", {}, "variants"),
        ("weights", [], "weights"),
        ("seed", -1, "seed"),
    ],
)
def test_hostile_entries_are_refused_in_one_sentence(path: str, value: Any, problem: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        Manifest.from_text(_changed(path, value))
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../model.so", "/etc/passwd", "a/b.so", "..", ".hidden", "", "a\\b", "m\n.so"]
)
def test_file_names_cannot_leave_the_folder(name: str) -> None:
    data = json.loads(_manifest().to_text())
    data["files"][name] = {"sha256": "0" * 64, "bytes": 1}
    with pytest.raises(ArtifactError, match=r"file name|short text"):
        Manifest.from_text(json.dumps(data))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        "[" * 100_000,
        '{"a": 1, "a": 2}',
        '{"seed": NaN}',
    ],
)
def test_text_that_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ArtifactError):
        Manifest.from_text(text)


def test_every_key_is_needed() -> None:
    for key in json.loads(_manifest().to_text()):
        data = json.loads(_manifest().to_text())
        del data[key]
        with pytest.raises(ArtifactError):
            Manifest.from_text(json.dumps(data))


def test_a_folder_without_a_manifest_is_no_artefact(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="not an artefact"):
        Manifest.read(tmp_path)


def test_a_manifest_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ArtifactError, match="UTF-8"):
        Manifest.read(tmp_path)


def test_writing_refuses_what_reading_would_refuse(tmp_path: Path) -> None:
    bad = Manifest.from_text(_manifest().to_text())
    object.__setattr__(bad, "threads", 0)
    with pytest.raises(ArtifactError, match="threads"):
        bad.write(tmp_path)
    assert not (tmp_path / MANIFEST_NAME).exists()


def _of_schema_2() -> dict[str, Any]:
    """What the last version wrote: the one variant's entries stand among the others."""
    data: dict[str, Any] = json.loads(_manifest().to_text())
    (variant,) = data.pop("variants")
    del variant["name"], variant["weights"]
    return {**data, **variant, "schema_version": 2}


def test_a_manifest_of_the_last_version_has_one_variant() -> None:
    assert Manifest.from_text(json.dumps(_of_schema_2())) == _manifest()


def test_a_manifest_of_the_last_version_is_believed_no_more_than_another() -> None:
    for key in _of_schema_2():
        data = _of_schema_2()
        del data[key]
        with pytest.raises(ArtifactError):
            Manifest.from_text(json.dumps(data))
    with pytest.raises(ArtifactError, match="lists variants"):
        Manifest.from_text(json.dumps(_of_schema_2() | {"variants": []}))


def test_two_variants_need_two_names() -> None:
    data = json.loads(_manifest().to_text())
    data["variants"] *= 2
    with pytest.raises(ArtifactError, match="same name twice"):
        Manifest.from_text(json.dumps(data))
