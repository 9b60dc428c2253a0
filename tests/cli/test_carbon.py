from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gcompile.energy.carbon import Accounting, ElectricityMaps, zone_intensity
from gcompile.report import BuildConfig, read_report
from tests.cli.conftest import ROOT, FakeCompiler, Outcome
from tests.energy.carbon.service import Service, serve
from tests.energy.carbon.test_providers import ELECTRICITY_MAPS

Call = Callable[..., Outcome]

MODEL = ROOT / "examples" / "digits_cnn.onnx"


@pytest.fixture
def electricity_maps(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    """Electricity Maps, played by a service on this machine."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("GCOMPILE_CARBON_KEY", raising=False)
    with serve() as service:
        service.answers["/v3/carbon-intensity/latest"] = (200, ELECTRICITY_MAPS)
        monkeypatch.setattr(
            "gcompile.energy.carbon.providers.ElectricityMaps",
            lambda key: ElectricityMaps(key, service.url),
        )
        yield service


def test_a_zone_reaches_the_compiler(call: Call, compiler: FakeCompiler) -> None:
    assert call("tiny.onnx", "--carbon-zone", "de", "--carbon-inferences", "7").code == 0
    assert compiler.calls[0]["carbon"] == Accounting(zone_intensity("DE"), 7)


def test_carbon_options_are_part_of_the_configuration(
    call: Call, compiler: FakeCompiler, tmp_path: Path
) -> None:
    options = ("--carbon-intensity", "350", "--carbon-embodied", "150,4")
    call("tiny.onnx", *options, "--budget", "5gCO2e/1000", "-o", "out")
    values = BuildConfig.read(tmp_path / "out" / "config.resolved.toml")
    assert values["carbon_intensity"] == 350
    assert values["carbon_embodied"] == "150,4"
    assert call("build", "--config", tmp_path / "out" / "config.resolved.toml").code == 0
    assert compiler.calls[0]["carbon"] == compiler.calls[1]["carbon"]


def test_a_carbon_budget_is_echoed_in_joules(call: Call, compiler: FakeCompiler) -> None:
    outcome = call("tiny.onnx", "--budget", "5gCO2e/1000", "--carbon-intensity", "360")
    assert "budget 5gCO2e/1000 is 5.00 mgCO2e, 50.0 J per inference" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--budget", "5gCO2e/1000"), "--carbon-zone DE or --carbon-intensity 350"),
        (("--budget", "5gCO2e", "--carbon-intensity", "0"), "give the budget in joules"),
        (("--carbon-zone", "Atlantis"), "Unknown carbon zone"),
        (("--carbon-zone", "DE", "--carbon-intensity", "350"), "give one of them"),
        (("--carbon-intensity", "-1"), "between 0 and 5000"),
        (("--carbon-intensity", "lots"), "valid number"),
        (("--carbon-zone", "DE", "--carbon-embodied", "1"), "--carbon-embodied 150,4"),
        (("--carbon-zone", "DE", "--carbon-provider", "none"), "Known carbon providers"),
        (("--carbon-zone", "DE", "--carbon-provider", "watttime"), "needs USER:PASSWORD"),
    ],
)
def test_wrong_carbon_options_exit_2_before_any_work(
    call: Call,
    compiler: FakeCompiler,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    part: str,
) -> None:
    monkeypatch.delenv("GCOMPILE_CARBON_KEY", raising=False)
    for command in ("build", "estimate"):
        if command == "estimate" and "--budget" in arguments:
            continue
        outcome = call(command, "tiny.onnx", *arguments)
        assert (outcome.code, outcome.out) == (2, "")
        assert part in outcome.err
    assert compiler.calls == []


def test_a_provider_is_asked_with_the_key_of_the_environment(
    call: Call,
    compiler: FakeCompiler,
    electricity_maps: Service,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("GCOMPILE_CARBON_KEY", "very-secret")
    options = ("--carbon-zone", "DE", "--carbon-provider", "electricity-maps", "-o", "out")
    assert call("tiny.onnx", *options).code == 0
    carbon = compiler.calls[0]["carbon"]
    assert isinstance(carbon, Accounting)
    assert carbon.intensity.g_per_kwh == 302.0
    assert electricity_maps.asked[0][1]["auth-token"] == "very-secret"
    for path in (tmp_path / "out").iterdir():
        assert "very-secret" not in path.read_text(encoding="utf-8")


def test_an_expired_key_ends_the_build_before_it_begins(
    call: Call, compiler: FakeCompiler, electricity_maps: Service, tmp_path: Path
) -> None:
    electricity_maps.answers["/v3/carbon-intensity/latest"] = (401, {"error": "Invalid"})
    options = ("--carbon-provider", "electricity-maps", "--carbon-key", "old")
    outcome = call("tiny.onnx", "--carbon-zone", "DE", *options)
    assert outcome.code == 4
    assert "expired" in outcome.err
    assert compiler.calls == []
    assert list(tmp_path.iterdir()) == []


def test_no_provider_is_asked_unless_named(
    call: Call, compiler: FakeCompiler, electricity_maps: Service
) -> None:
    assert call("tiny.onnx", "--carbon-zone", "DE", "--carbon-key", "k").code == 0
    assert electricity_maps.asked == []


def test_an_estimate_has_a_carbon_section(call: Call, compiler: FakeCompiler) -> None:
    options = ("--carbon-intensity", "360", "--format", "json")
    carbon = json.loads(call("estimate", "tiny.onnx", *options).out)["carbon"]
    assert carbon["gco2e"] == pytest.approx(10e-6 * 1e-4)
    assert carbon["unit"] == "inference"
    assert carbon["build"] is None
    without = json.loads(call("estimate", "tiny.onnx", "--format", "json").out)
    assert without["carbon"] is None


def test_the_emissions_of_a_batch_are_called_that(call: Call, compiler: FakeCompiler) -> None:
    options = ("--carbon-intensity", "360", "--batch", "8")
    text = call("estimate", "tiny.onnx", *options).out
    assert "1.00 ngCO2e per batch of 8" in text


def test_a_build_reports_its_own_emissions(call: Call, tmp_path: Path) -> None:
    outcome = call(
        *("build", MODEL, "--carbon-zone", "DE", "--budget", "1gCO2e", "-o", "out", "--quiet"),
    )
    assert outcome.code == 0, outcome.err
    report = read_report(tmp_path / "out")
    carbon = report.carbon
    assert carbon is not None
    assert carbon.gco2e == pytest.approx(report.energy.after.energy_j / 3.6e6 * 380.9, rel=1e-3)
    assert carbon.build is not None
    assert carbon.build.provenance == "estimated"
    assert 0.01 < carbon.build.cpu_s < 600
    assert carbon.build.energy_j == pytest.approx(carbon.build.cpu_s * carbon.build.power_w)
    assert report.budget.energy_j == pytest.approx(3.6e6 / 380.9, rel=1e-3)
    assert report.budget.met
    assert "CO2e" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
