"""`gcompile calibrate` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcompile.cli.main import main
from gcompile.targets import load_target
from tests.energy.calibration.boards import save_networks


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_networks(folder)
    return folder


def _run(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["calibrate", *map(str, arguments)])
    return int(ended.value.code or 0)


def test_rows_become_a_target_file_that_estimates_use(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, output = tmp_path / "rows.csv", tmp_path / "board.toml"
    lines = (f"{file.stem},{0.1 + 0.02 * i}" for i, file in enumerate(sorted(models.glob("*"))))
    rows.write_text("\n".join(["model,energy_j", *lines]), encoding="utf-8")
    options = ("--target", "generic-arm64", "--measurements", rows, "--models", models)
    assert _run(*options, "-o", output) == 0
    printed = capsys.readouterr().out
    assert "24 rows of rows.csv" in printed
    assert "across families" in printed
    assert load_target(output).calibrated


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("-o", "x.toml"), "Give either --measurements"),
        (("-o", "x.toml", "--measure", "--measurements", "r.csv"), "Give either"),
        (("-o", "x.toml", "--measurements", "r.csv"), "needs --models DIR"),
        (("-o", "x.json", "--measure"), "ends in .toml"),
        (
            ("-o", "x.toml", "--measurements", "r.csv", "--models", ".", "--meter", "rapl"),
            "add --measure",
        ),
        (
            ("-o", "x.toml", "--measurements", "none.csv", "--models", "."),
            "cannot be read as text",
        ),
    ],
)
def test_what_cannot_be_calibrated_is_said_in_a_sentence(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run("--target", "generic-arm64", *arguments) == 2
    assert message in capsys.readouterr().err


def test_measuring_without_a_meter_fails_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "board.toml"
    meter = f"csv:{tmp_path / 'none.csv'}"
    assert _run("--target", "cpu", "--measure", "--meter", meter, "-o", output) == 4
    assert "start the analyser's log" in capsys.readouterr().err
    assert not output.exists()
