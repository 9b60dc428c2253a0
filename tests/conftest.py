"""Show what differs, in helpers too; keep out of the user's cache."""

import os
from collections.abc import Iterator

import pytest

from gcompile.compiler import kept_builds

pytest_plugins = ("tests.fake_gpu",)

pytest.register_assert_rewrite("tests.passes.rewriting", "gcompile.testing")


@pytest.fixture(autouse=True, scope="session")
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """One folder for the compiled kernels of all workers."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(autouse=True)
def every_build_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """No build is restored from that of another test: what a test says is compiled, is."""
    monkeypatch.setattr(kept_builds, "kept_builds", lambda *_: None)
