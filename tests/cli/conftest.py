"""Ways to call the command line: in this process with a made-up compiler, or as a user would."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

import gcompile
from gcompile.cli import main
from gcompile.report import Report, write_report
from tests.report import examples

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


@dataclass
class FakeCompiler:
    """Stands for `gcompile.compiler`: records how it was called and writes a small artefact."""

    report: Report = field(default_factory=examples.report)
    error: BaseException | None = None
    calls: list[dict[str, object]] = field(default_factory=list)

    def compile(self, model: object, target: object, **options: object) -> SimpleNamespace:
        """Write a report and a manifest where a compilation would, then fail if asked to."""
        self.calls.append({"model": model, "target": target, **options})
        progress = options["progress"]
        if callable(progress):
            progress("building", 0.5)
        output = Path(str(options["output"]))
        write_report(self.report, output)
        (output / "manifest.json").write_text("{}", encoding="utf-8")
        if self.error is not None:
            raise self.error
        return SimpleNamespace(report=self.report, is_restored=False)

    def estimate(self, model: object, target: object, **options: object) -> object:
        """Give the estimate of the example."""
        self.calls.append({"model": model, "target": target, **options})
        return examples.estimate()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> FakeCompiler:
    """Replace the compiler, so that only the command line is tested."""
    fake = FakeCompiler()
    for module in ("gcompile.compiler", "gcompile.compiler.estimate"):
        monkeypatch.setitem(sys.modules, module, fake)
    monkeypatch.setattr(gcompile, "compiler", fake, raising=False)
    return fake


@pytest.fixture
def call(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Call `gcompile` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    return call


def gcompile_process(*arguments: object, folder: Path) -> Outcome:
    """Call `gcompile` as a user would, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "gcompile", *map(str, arguments)],
        capture_output=True,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"},
        encoding="utf-8",
        check=False,
        timeout=600,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)
