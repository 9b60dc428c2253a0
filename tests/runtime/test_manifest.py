"""The manifest says everything it must, and nothing else gets past it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gcompile.errors import ArtifactError, RunError, UnknownNameError
from gcompile.runtime import EntryPoint, FileRecord, Manifest, TensorSpec, Variant
from gcompile.runtime.manifest import MANIFEST_NAME


def _manifest() -> Manifest:
    return Manifest(
        gcompile_version="0.1.0",
        tvm_version="0.27.0",
        status="met",
        entries=(
            EntryPoint(
                "main",
                "m",
                inputs=(TensorSpec("x", "float32", (1, 3)),),
                outputs=(TensorSpec("y", "int64", ()),),
            ),
        ),
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
        ("entries/0/inputs/0/layout", "nhwc", "unknown key 'layout'"),
        ("schema_version", 1, "schema version 1"),
        ("schema_version", {}, "schema version"),
        ("threads", 0, "threads"),
        ("threads", True, "threads"),
        ("threads", "2", "threads"),
        ("threads", 1e3, "threads"),
        ("variants/0/needs_amx", "no", "needs_amx"),
        ("entries/0/model_name", "", "model_name"),
        ("entries/0/model_name", "a" * 2000, "model_name"),
        ("entries/0/name", "main\0", "entry"),
        ("entries/0/extra", 1, "unknown key 'extra'"),
        ("entries", [], "0 entries"),
        ("entries/0/counts", [{"output": "y", "axis": 0, "count": "z"}], "does not list"),
        ("entries/0/counts", [{"output": "x", "axis": 3, "count": "y"}], "does not list"),
        ("variants/0/entry", "other", "other entries"),
        ("variants/0/isa_required", "avx2", "isa"),
        ("variants/0/isa_required", ["avx2; rm"], "not a CPU flag"),
        ("entries/0/inputs", {}, "inputs"),
        ("entries/0/inputs/0/dtype", "object", "unknown dtype"),
        ("entries/0/inputs/0/shape", [-1], "shape"),
        ("entries/0/inputs/0/shape", [2**30, 2**30], "absurd size"),
        ("entries/0/inputs/0/shape", [1] * 40, "dimensions"),
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


def _of_schema_5() -> dict[str, Any]:
    """What version 5 wrote: it knew no outputs whose size the data decides."""
    data: dict[str, Any] = json.loads(_manifest().to_text())
    for entry in data["entries"]:
        del entry["counts"]
    return {**data, "schema_version": 5}


def _of_schema_4() -> dict[str, Any]:
    """What version 4 wrote: it knew no ladders."""
    data = _of_schema_5()
    del data["ladder"]
    return {**data, "schema_version": 4}


def _of_schema_3() -> dict[str, Any]:
    """What version 3 wrote: the one entry point's tensors stand among the others."""
    data = _of_schema_4()
    (entry,) = data.pop("entries")
    for variant in data["variants"]:
        del variant["entry"]
    del entry["name"]
    return {**data, **entry, "entry": "main", "schema_version": 3}


def _of_schema_2() -> dict[str, Any]:
    """What version 2 wrote: the one variant's entries stand there too."""
    data = _of_schema_3()
    (variant,) = data.pop("variants")
    del variant["name"], variant["weights"]
    return {**data, **variant, "schema_version": 2}


OLD = [_of_schema_2, _of_schema_3, _of_schema_4, _of_schema_5]


@pytest.mark.parametrize("old", OLD)
def test_a_manifest_of_an_old_version_says_what_it_said(
    old: Callable[[], dict[str, Any]],
) -> None:
    assert Manifest.from_text(json.dumps(old())) == _manifest()


@pytest.mark.parametrize("old", OLD)
def test_a_manifest_of_an_old_version_is_believed_no_more_than_another(
    old: Callable[[], dict[str, Any]],
) -> None:
    for key in old():
        data = old()
        del data[key]
        with pytest.raises(ArtifactError):
            Manifest.from_text(json.dumps(data))


@pytest.mark.parametrize("old", [_of_schema_2, _of_schema_3, _of_schema_4])
def test_a_manifest_of_an_old_version_has_no_ladder(old: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(ArtifactError, match="has a ladder, which its schema"):
        Manifest.from_text(json.dumps(old() | {"ladder": None}))


def test_a_manifest_of_version_5_counts_nothing() -> None:
    data = _of_schema_5()
    data["entries"][0]["counts"] = []
    with pytest.raises(ArtifactError, match="has counts, which its schema"):
        Manifest.from_text(json.dumps(data))


@pytest.mark.parametrize("old", [_of_schema_2, _of_schema_3])
def test_a_manifest_without_entry_points_has_one(old: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(ArtifactError, match="lists entries"):
        Manifest.from_text(json.dumps(old() | {"entries": []}))
    with pytest.raises(ArtifactError, match="another entry"):
        Manifest.from_text(json.dumps(old() | {"entry": "start"}))


def test_a_manifest_of_version_2_lists_no_variants() -> None:
    with pytest.raises(ArtifactError, match="lists variants"):
        Manifest.from_text(json.dumps(_of_schema_2() | {"variants": []}))


def test_an_entry_point_is_asked_for_by_name_where_there_are_several() -> None:
    (main,) = _manifest().entries
    one = replace(main, name="prefill")
    two = replace(main, name="decode")
    several = replace(_manifest(), entries=(one, two))
    assert _manifest().entry_point() == main
    assert several.entry_point("decode") == two
    with pytest.raises(RunError, match="prefill, decode; name one"):
        several.entry_point()
    with pytest.raises(UnknownNameError, match="Unknown entry point 'main'"):
        several.entry_point("main")


def test_two_variants_need_two_names() -> None:
    data = json.loads(_manifest().to_text())
    data["variants"] *= 2
    with pytest.raises(ArtifactError, match="same name twice"):
        Manifest.from_text(json.dumps(data))


DIMENSION = {"name": "n", "kind": "rows", "inputs": [["x", 0]], "outputs": []}
LADDER = {"dimensions": [DIMENSION], "energy_j": {"main": 1e-6}}


def test_a_ladder_survives_writing_and_reading() -> None:
    manifest = Manifest.from_text(_changed("ladder", LADDER))
    assert manifest.ladder is not None
    assert manifest.ladder.dimensions[0].size_in(manifest.entries[0]) == 1
    assert Manifest.from_text(manifest.to_text()) == manifest


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("energy_j", {"other": 1.0}),
        ("energy_j", {"main": -1.0}),
        ("energy_j", {"main": "much"}),
        ("dimensions", []),
        ("dimensions", [{**DIMENSION, "kind": "columns"}]),
        ("dimensions", [{**DIMENSION, "inputs": []}]),
        ("dimensions", [{**DIMENSION, "inputs": [["x", 2]]}]),
        ("dimensions", [{**DIMENSION, "outputs": [["y", 0]]}]),
        ("dimensions", [{**DIMENSION, "inputs": [["x"]]}]),
    ],
)
def test_a_ladder_that_does_not_fit_is_refused(key: str, value: object) -> None:
    with pytest.raises(ArtifactError):
        Manifest.from_text(_changed("ladder", LADDER | {key: value}))
