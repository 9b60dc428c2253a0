from __future__ import annotations

import json
from pathlib import Path

import pytest

from gcompile.errors import ArtifactError
from gcompile.report import BuildConfig, read_report, write_report
from gcompile.report.write import write_atomically
from tests.report import examples


def test_a_report_is_written_in_every_form_and_read_back(tmp_path: Path) -> None:
    report = examples.report()
    write_report(report, tmp_path, BuildConfig(model="m.onnx"))
    assert {path.name for path in tmp_path.iterdir()} == {
        *("report.json", "report.html", "report.md", "ledger.json", "config.resolved.toml"),
    }
    assert read_report(tmp_path) == report
    assert read_report(tmp_path / "report.json") == report


def test_the_ledger_has_before_after_and_outcome_of_every_pass(tmp_path: Path) -> None:
    write_report(examples.report(), tmp_path)
    ledger = json.loads((tmp_path / "ledger.json").read_text(encoding="utf-8"))
    first, _, last = ledger["passes"]
    assert first["delta_j"] == pytest.approx(-10e-6)
    assert first["outcome"] == "12 rewrites; skipped: weight shared (2)"
    assert last["kept"] is False
    assert (ledger["boundary"], ledger["idle_policy"]) == ("board", "full")


def test_writing_fails_whole(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \udc80")
    assert path.read_text(encoding="utf-8") == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("content", [b"", b"{", b'{"status": "ok"}', b"\xff\xfe"])
def test_a_damaged_report_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "report.json").write_bytes(content)
    with pytest.raises(ArtifactError, match="damaged or of another version"):
        read_report(tmp_path)


def test_a_missing_report_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_report(tmp_path)
