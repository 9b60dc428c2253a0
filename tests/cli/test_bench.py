from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import gcompile
from gcompile.cli.metering import parse_seconds
from gcompile.errors import UsageError
from gcompile.report import BenchResult, read_report
from tests.cli.conftest import ROOT, Outcome

Call = Callable[..., Outcome]

QUICK = ("--seconds", "0.05", "--warmup", "1")


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example model, compiled exactly."""
    folder = tmp_path_factory.mktemp("artefact") / "out"
    gcompile.compile(ROOT / "examples" / "digits_cnn.onnx", output=folder)
    return folder


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without RAPL and without Zeus; the folder where RAPL would be."""
    monkeypatch.setattr("gcompile.energy.meters.rapl.ROOT", tmp_path / "powercap")
    monkeypatch.setitem(sys.modules, "zeus.device", None)
    return tmp_path / "powercap"


@contextmanager
def analyser(path: Path, power_w: float) -> Iterator[None]:
    """Log a constant power a hundred times a second while the block runs."""
    stop = threading.Event()

    def log() -> None:
        with path.open("w", buffering=1) as file:
            file.write("time_s,power_w\n")
            while not stop.wait(0.01):
                file.write(f"{time.time():.6f},{power_w}\n")

    thread = threading.Thread(target=log)
    thread.start()
    time.sleep(0.1)
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_without_measure_the_joules_are_an_estimate(artefact: Path, call: Call) -> None:
    result = BenchResult.model_validate_json(
        call("bench", artefact, *QUICK, "--format", "json").out
    )
    assert result.energy.provenance == "estimated"
    assert result.energy.joules_per_inference == read_report(artefact).energy.after.energy_j
    assert (result.energy.idle_w, result.predicted, result.carbon) == (None, None, None)


def test_an_analysers_log_gives_measured_joules(
    artefact: Path, call: Call, tmp_path: Path
) -> None:
    options = ("--window", "300ms", "--repeats", "2", "--idle", "full")
    with analyser(tmp_path / "power.csv", 20.0):
        outcome = call(
            *("bench", artefact, *QUICK, "--measure", "--meter", "csv:power.csv,boundary=board"),
            *(*options, "--carbon-intensity", "360", "--format", "json"),
        )
    assert outcome.code == 0, outcome.err
    data = json.loads(outcome.out)["energy"]
    assert data["provenance"] == "measured"
    assert data["boundary"] == "board"
    assert data["repeats"] + data["discarded"] == 2
    assert data["window_s"] == pytest.approx(0.3, rel=0.2)
    assert data["idle_w"] == pytest.approx(20.0)
    assert data["power_w"] == pytest.approx(20.0)
    assert data["idle_policy"] == "full"
    assert data["stdev_j"] >= 0
    assert "power.csv" in data["method"]
    seconds = data["window_s"] * data["repeats"] / data["inferences"]
    assert data["joules_per_inference"] == pytest.approx(20.0 * seconds, rel=0.5)
    result = BenchResult.model_validate_json(outcome.out)
    assert result.predicted is not None
    assert result.predicted.provenance == "estimated"
    assert result.carbon is not None
    assert result.carbon.provenance == "measured"
    assert result.carbon.gco2e == pytest.approx(data["joules_per_inference"] * 1e-4)
    assert "measuring with power log power.csv" in outcome.err


def test_a_measurement_as_text_says_how_it_was_made(
    artefact: Path, call: Call, tmp_path: Path
) -> None:
    with analyser(tmp_path / "power.csv", 20.0):
        outcome = call(
            *("bench", artefact, *QUICK, "--measure", "--meter", "csv:power.csv"),
            *("--window", "0.25", "--repeats", "1"),
        )
    assert outcome.code == 0, outcome.err
    text = " ".join(outcome.out.split())
    for part in ("measured", "±", "wall boundary", "1 windows of", "idle 20 W included"):
        assert part in text
    assert "predicted" in text


def test_asked_to_measure_and_unable_it_fails_and_estimates_nothing(
    artefact: Path, call: Call, bare_machine: Path
) -> None:
    for format_ in ("text", "json"):
        outcome = call("bench", artefact, *QUICK, "--measure", "--format", format_)
        assert outcome.code == 4
        assert outcome.out == ""
        assert len(outcome.err.splitlines()) == 1
        for part in ("rapl: ", "zeus: ", "--meter csv:FILE"):
            assert part in outcome.err


def test_the_meter_that_was_asked_for_is_not_replaced(
    artefact: Path, call: Call, bare_machine: Path
) -> None:
    outcome = call("bench", artefact, *QUICK, "--measure", "--meter", "rapl")
    assert outcome.code == 4
    assert "rapl: " in outcome.err
    assert "zeus" not in outcome.err


def test_readings_that_cannot_be_used_exit_4_too(
    artefact: Path, call: Call, bare_machine: Path, tmp_path: Path
) -> None:
    package = bare_machine / "intel-rapl:0"
    package.mkdir(parents=True)
    for name, text in (("name", "package-0"), ("energy_uj", "7"), ("max_energy_range_uj", "9")):
        (package / name).write_text(text)
    outcome = call("bench", artefact, *QUICK, "--measure", "--window", "50ms")
    assert outcome.code == 4
    assert outcome.out == ""
    assert "no joules at all" in outcome.err


def test_a_log_that_ends_early_is_refused(artefact: Path, call: Call, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("time_s,power_w\n100,1\n101,2\n")
    outcome = call(
        *("bench", artefact, *QUICK, "--measure", "--window", "50ms", "--repeats", "1"),
        *("--meter", "csv:old.csv,wait=0"),
    )
    assert outcome.code == 4
    assert outcome.out == ""
    assert "offset=SECONDS" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--meter", "rapl"), "add --measure"),
        (("--window", "5s"), "add --measure"),
        (("--idle", "full"), "add --measure"),
        (("--measure", "--meter", "watts"), "Known meters"),
        (("--measure", "--meter", "csv:"), "names no file"),
        (("--measure", "--window", "soon"), "5s or 500ms"),
        (("--measure", "--window", "5h"), "5s or 500ms"),
        (("--measure", "--repeats", "0"), "1 or more"),
        (("--measure", "--idle", "some"), "some"),
        (("--carbon-provider", "uk"), "needs a zone"),
        (("--carbon-inferences", "5"), "without a grid"),
    ],
)
def test_a_wrong_option_exits_2_before_any_work(
    call: Call, arguments: tuple[str, ...], part: str
) -> None:
    outcome = call("bench", "no-such-folder", *arguments)
    assert outcome.code == 2
    assert part in outcome.err
    assert outcome.out == ""


def test_a_window_too_long_for_a_counter_is_refused(
    artefact: Path, call: Call, tmp_path: Path
) -> None:
    (tmp_path / "p.csv").write_text("time_s,power_w\n100,1\n101,2\n")
    outcome = call("bench", artefact, "--measure", "--meter", "csv:p.csv", "--window", "10min")
    assert outcome.code == 2
    assert "120 s" in outcome.err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("500ms", 0.5), ("2min", 120.0), ("1.5", 1.5), (".5 s", 0.5)],
)
def test_a_window_is_a_length_of_time(text: str, seconds: float) -> None:
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 J", "1e3s", "5s5"])
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Write it as 5s or 500ms"):
        parse_seconds(text)


def test_an_estimate_emits_as_its_report_says(artefact: Path, call: Call) -> None:
    options = ("--carbon-zone", "DE", "--carbon-inferences", "1000", "--format", "json")
    result = BenchResult.model_validate_json(call("bench", artefact, *QUICK, *options).out)
    energy = read_report(artefact).energy.after
    assert result.carbon is not None
    assert result.carbon.provenance == "estimated"
    assert result.carbon.gco2e == pytest.approx(energy.energy_j / 3.6e6 * 380.9, rel=1e-3)
    assert result.carbon.low_gco2e / result.carbon.gco2e == pytest.approx(
        energy.low_j / energy.energy_j
    )
    assert (result.carbon.units, result.carbon.build) == (1000, None)
