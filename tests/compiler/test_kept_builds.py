from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gcompile
from gcompile import Compiled, ir
from gcompile.compiler import kept_builds as module
from gcompile.compiler import whole
from gcompile.compiler.kept_builds import KeptBuilds, kept_builds
from tests.compiler.task import task

Build = Callable[..., Compiled]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Build:
    """Build the task with a cache of its own; `must_restore` forbids to compile anything."""
    compile_anew = whole.compile_jobs

    def build(name: str, *, must_restore: bool = False, **changed: Any) -> Compiled:
        def refuse(*_: object) -> Compiled:
            raise AssertionError("compiled anew")

        monkeypatch.setattr(whole, "compile_jobs", refuse if must_restore else compile_anew)
        monkeypatch.setattr(module, "kept_builds", kept_builds)
        options = {"precision": "int8", "calib": task().calib, "quantization": "fast"}
        return gcompile.compile(
            task().model, output=tmp_path / name, cache=tmp_path / "cache", **options | changed
        )

    return build


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_an_equal_build_is_restored_whole(build: Build) -> None:
    first, again = build("first"), build("again", must_restore=True)
    assert again.is_restored
    assert not first.is_restored
    assert files(again.artifact.folder) == files(first.artifact.folder)
    assert again.report == first.report
    assert len(ir.regions(again.model.graph)) == len(ir.regions(first.model.graph))
    row = {"x": task().evaluate["x"][:1]}
    np.testing.assert_array_equal(again.artifact.run(row)["y"], first.artifact.run(row)["y"])


@pytest.mark.parametrize(
    "changed",
    [
        {"quantization": "balanced"},
        {"seed": 1},
        {"calib": {"x": np.float32(1.001) * task().calib["x"].astype(np.float32)}},
        {"precision": "bf16"},
        {"passes": "fold-constants"},
    ],
)
def test_a_build_that_asks_for_anything_else_is_made(
    build: Build, changed: dict[str, object]
) -> None:
    build("first")
    assert not build("other", **changed).is_restored


@pytest.mark.parametrize(
    "changed",
    [
        {"metric": lambda outputs, labels: 1.0, "evaluate": task().evaluate},
        {"plugins": ["tests.test_testing"]},
        {"search_time": "1m"},
    ],
)
def test_what_depends_on_more_than_is_hashed_is_never_kept(
    build: Build, changed: dict[str, object]
) -> None:
    build("first", **changed)
    assert not build("again", **changed).is_restored


@pytest.mark.parametrize("damaged", ["model.so", "report.json", "manifest.json"])
def test_a_damaged_entry_is_built_again(build: Build, tmp_path: Path, damaged: str) -> None:
    first = build("first")
    (entry,) = (tmp_path / "cache" / "builds").iterdir()
    (entry / damaged).write_bytes(b"{")
    again = build("again")
    assert not again.is_restored
    assert again.report.energy == first.report.energy
    assert build("third", must_restore=True).is_restored


def test_no_more_is_kept_than_the_limit(tmp_path: Path) -> None:
    store = KeptBuilds(tmp_path / "builds", limit_bytes=250)
    for name in "abc":
        folder = tmp_path / name
        folder.mkdir()
        (folder / "file").write_bytes(bytes(100))
        store.keep(name, folder)
    assert sorted(path.name for path in store.folder.iterdir()) == ["b", "c"]


def test_restoring_loads_no_code_generator() -> None:
    assert _loaded_by("import gcompile.compiler, gcompile.cli.compilation") == set()
    assert "tvm" in _loaded_by("import gcompile.compiler.whole")


def _loaded_by(statement: str) -> set[str]:
    """Which heavy libraries a new process has loaded after a statement."""
    ask = f"{statement}; import sys; print(*{{'tvm', 'scipy.optimize'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", ask], check=True, capture_output=True, text=True)
    return set(done.stdout.split())
