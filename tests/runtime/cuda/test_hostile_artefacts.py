"""Artefacts that were damaged or made up: refused in one sentence, before a GPU is touched."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gcompile import runtime
from gcompile.errors import ArtifactError
from gcompile.runtime.cuda.image import is_whole
from tests.fake_gpu import FakeDriver
from tests.runtime.cuda.conftest import Built

Plan = dict[str, Any]


@pytest.fixture
def artefact(built: Built, fake: FakeDriver, tmp_path: Path) -> Path:
    """A copy of an artefact that its test may change."""
    fake.know(built.kernels, tmp_path)
    return Path(shutil.copytree(built.folder, tmp_path / "artefact"))


def _record(folder: Path, *names: str) -> None:
    """Make the manifest say that these files are as they should be."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in names:
        record = runtime.FileRecord.of(folder / name)
        manifest["files"][name] = {"sha256": record.sha256, "bytes": record.bytes}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def _change_plan(folder: Path, change: Callable[[Plan], object]) -> None:
    path = folder / "model.plan.json"
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))
    _record(folder, path.name)


def _first_launch(plan: Plan) -> list[Any]:
    found: list[Any] = next(step for step in plan["steps"] if step[0] == "launch")
    return found


def _set(plan: Plan, *path: str | int, value: object) -> None:
    target: Any = plan
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value


@pytest.mark.parametrize(
    "change",
    [
        lambda p: _set(p, "arena_bytes", value=-1),
        lambda p: _set(p, "arena_bytes", value=2**50),
        lambda p: _set(p, "arena_bytes", value=1.5),
        lambda p: _set(p, "arena_bytes", value=True),
        lambda p: _set(p, "arena_bytes", value=0),
        lambda p: _set(p, "driver", value=-1),
        lambda p: _set(p, "kernels", 0, "grid", value=[1, 1]),
        lambda p: _set(p, "kernels", 0, "grid", value=[0, 1, 1]),
        lambda p: _set(p, "kernels", 0, "grid", value=[1, 70_000, 1]),
        lambda p: _set(p, "kernels", 0, "block", value=[-32, 1, 1]),
        lambda p: _set(p, "kernels", 0, "block", value=[32, 32, 2]),
        lambda p: _set(p, "kernels", 0, "shared_bytes", value=-1),
        lambda p: _set(p, "kernels", 0, "name", value="a\0b"),
        lambda p: _set(p, "kernels", value=[]),
        lambda p: _set(p, "steps", 0, value=["launch", -1, []]),
        lambda p: _set(p, "steps", 0, value=["launch", 999, []]),
        lambda p: _set(p, "steps", 0, value=["jump", 0, []]),
        lambda p: _set(p, "steps", 0, value=["copy", 0, [["input", 0, 1]]]),
        lambda p: _set(p, "steps", 0, value=["zero", 0, [["arena", -256, 256]]]),
        lambda p: _set(p, "steps", 0, value=["zero", 0, [["arena", 8, 8]]]),
        lambda p: _set(p, "steps", 0, value=["zero", 0, [["arena", 0, -4]]]),
        lambda p: _set(p, "steps", 0, value=["zero", 0, [["weight", -1, 4]]]),
        lambda p: _set(p, "steps", 0, value=["zero", 0, [["input", 0, 1]]]),
        lambda p: _set(p, "steps", 0, value=["zero", 0, [["output", 7, 4]]]),
        lambda p: _set(p, "steps", 0, value=["zero", 0, [["host", 0, 4]]]),
        lambda p: _set(p, "steps", value={}),
        lambda p: _set(p, "codes", value=[]),
        lambda p: _set(p, "codes", 0, "arch", value=-80),
        lambda p: _set(p, "codes", 0, "format", value="source"),
        lambda p: _set(p, "codes", 0, "file", value="/etc/passwd"),
        lambda p: _set(p, "codes", 0, "file", value="elsewhere.cubin"),
        lambda p: _set(p, "codes", 0, "spans", 0, value=[-1, 10]),
        lambda p: _set(p, "codes", 0, "spans", 0, value=[0, 0]),
        lambda p: _set(p, "codes", 0, "spans", 0, value=[0, 2**60]),
        lambda p: _set(p, "codes", 0, "spans", 0, value=[0]),
    ],
)
def test_numbers_that_no_build_writes_are_refused(
    artefact: Path, fake: FakeDriver, change: Callable[[Plan], object]
) -> None:
    _change_plan(artefact, change)
    with pytest.raises(ArtifactError) as error:
        runtime.load(artefact)
    assert "\n" not in str(error.value)
    assert fake.count("loads") == 0


def _last_span(plan: Plan) -> list[int]:
    found: list[int] = plan["codes"][0]["spans"][-1]
    return found


def test_code_beyond_the_end_of_its_file_is_refused(artefact: Path, fake: FakeDriver) -> None:
    _change_plan(artefact, lambda plan: _last_span(plan).__setitem__(0, _last_span(plan)[0] + 8))
    with pytest.raises(ArtifactError, match=r"in model\.sm_80\.cubin is damaged"):
        runtime.load(artefact)
    assert fake.count("loads") == 0


def test_machine_code_that_was_cut_off_is_refused(artefact: Path, fake: FakeDriver) -> None:
    path = artefact / "model.sm_80.cubin"
    path.write_bytes(path.read_bytes()[:-64])
    _change_plan(artefact, lambda plan: _last_span(plan).__setitem__(1, _last_span(plan)[1] - 64))
    _record(artefact, path.name)
    with pytest.raises(ArtifactError, match=r"in model\.sm_80\.cubin is damaged"):
        runtime.load(artefact)
    assert fake.count("loads") == 0


def test_a_file_that_is_not_what_the_manifest_says_is_refused(artefact: Path) -> None:
    path = artefact / "model.sm_80.cubin"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ArtifactError, match=r"model\.sm_80\.cubin"):
        runtime.load(artefact)


@pytest.mark.parametrize("places", [[], [["input", 0, 2304]]])
def test_a_kernel_is_given_as_many_arguments_as_it_takes(
    artefact: Path, fake: FakeDriver, places: list[object]
) -> None:
    _change_plan(artefact, lambda plan: _first_launch(plan).__setitem__(2, places))
    live = [fake.count(f"live_{what}") for what in ("modules", "allocations", "streams")]
    with pytest.raises(ArtifactError, match="other arguments than it takes"):
        runtime.load(artefact)
    assert live == [fake.count(f"live_{what}") for what in ("modules", "allocations", "streams")]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"arena_bytes": NaN}', "[" * 100_000])
def test_what_is_no_plan_is_refused(artefact: Path, text: str) -> None:
    (artefact / "model.plan.json").write_text(text)
    _record(artefact, "model.plan.json")
    with pytest.raises(ArtifactError):
        runtime.load(artefact)


def _cubins(built: Built) -> list[bytes]:
    plan = json.loads((built.folder / "model.plan.json").read_text())
    (code,) = (code for code in plan["codes"] if code["format"] == "cubin")
    content = (built.folder / code["file"]).read_bytes()
    return [content[start : start + size] for start, size in code["spans"]]


def test_machine_code_is_whole_only_in_full_length(built: Built) -> None:
    for image in _cubins(built):
        assert is_whole(image, "cubin")
        assert not any(is_whole(image[:size], "cubin") for size in range(0, len(image), 97))
        assert not is_whole(image, "ptx")


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [
        (4, "<B", 1),  # 32 bits
        (18, "<H", 62),  # another machine
        (40, "<Q", 2**63),  # sections elsewhere
        (58, "<H", 65535),  # sections of another size
        (60, "<H", 65535),  # more sections than there are
    ],
)
def test_headers_that_lead_out_of_the_image_are_refused(
    built: Built, offset: int, form: str, value: int
) -> None:
    image = bytearray(_cubins(built)[0])
    struct.pack_into(form, image, offset, value)
    assert not is_whole(bytes(image), "cubin")


def test_ptx_ends_where_its_last_function_does() -> None:
    text = b".version 8.0\n.target sm_80\n.entry k() {\n ret;\n}\n\0"
    assert is_whole(text, "ptx")
    assert not is_whole(text[:-5], "ptx")
    assert not is_whole(text.replace(b"ret", b"\0et"), "ptx")
