"""No test here uses a GPU, wherever it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcompile.runtime.cuda.driver import LIBRARY_VARIABLE


@pytest.fixture(autouse=True)
def _no_gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path / "no-driver"))
