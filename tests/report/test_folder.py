from __future__ import annotations

from pathlib import Path

import pytest

from gcompile.errors import UsageError
from gcompile.report import artifact_folder


def _fill(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def _fail(output: Path, error: type[BaseException] = RuntimeError) -> None:
    with artifact_folder(output) as folder:
        _fill(folder, "half")
        raise error


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    with artifact_folder(tmp_path / "deep" / "out") as folder:
        _fill(folder, "new")
        assert not (tmp_path / "deep" / "out").exists()
    assert (tmp_path / "deep" / "out" / "manifest.json").read_text(encoding="utf-8") == "new"
    assert _names(tmp_path / "deep") == ["out"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_an_error_or_interruption_leaves_nothing_behind(
    tmp_path: Path, error: type[BaseException]
) -> None:
    with pytest.raises(error):
        _fail(tmp_path / "out", error)
    assert _names(tmp_path) == []


def test_an_error_leaves_the_artefact_that_was_there(tmp_path: Path) -> None:
    with artifact_folder(tmp_path / "out") as folder:
        _fill(folder, "old")
    with pytest.raises(RuntimeError):
        _fail(tmp_path / "out")
    assert (tmp_path / "out" / "manifest.json").read_text(encoding="utf-8") == "old"
    assert _names(tmp_path) == ["out"]


def test_an_artefact_is_replaced_whole(tmp_path: Path) -> None:
    with artifact_folder(tmp_path / "out") as folder:
        _fill(folder, "old")
        (folder / "extra").touch()
    with artifact_folder(tmp_path / "out") as folder:
        _fill(folder, "new")
    assert _names(tmp_path / "out") == ["manifest.json"]
    assert _names(tmp_path) == ["out"]


def test_a_folder_may_be_filled_through_another(tmp_path: Path) -> None:
    with artifact_folder(tmp_path / "out") as outer:
        with artifact_folder(outer) as inner:
            _fill(inner, "inner")
        (outer / "config.resolved.toml").touch()
    assert _names(tmp_path / "out") == ["config.resolved.toml", "manifest.json"]
    assert _names(tmp_path) == ["out"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    with pytest.raises(UsageError, match="not an artefact"), artifact_folder(tmp_path):
        pass
    assert _names(tmp_path) == ["thesis.txt"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(UsageError, match="not a folder"), artifact_folder(tmp_path / "out"):
        pass
