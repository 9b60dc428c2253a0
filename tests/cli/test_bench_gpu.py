"""`gcompile bench` on a GPU: one without a GPU stands in for the driver and for NVML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import gcompile
from gcompile.backends.cuda.lowering.model import lower_model
from gcompile.cli.metering import parse_watts
from gcompile.energy.meters import NvmlMeter
from gcompile.errors import UsageError
from gcompile.report import BenchResult, read_report
from gcompile.targets import load_target
from tests.cli.conftest import ROOT, Outcome
from tests.compiler.task import task
from tests.fake_gpu import FakeCard, FakeDriver
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc

Call = Callable[..., Outcome]

_TARGET = "nvidia-a100-sxm-80"
_QUICK = ("--seconds", "0.02", "--warmup", "1", "--format", "json")
_MEASURE = ("--measure", "--window", "100ms", "--repeats", "2")


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> gcompile.Compiled:
    """A small network for an A100."""
    return gcompile.compile(task().model, _TARGET, output=tmp_path_factory.mktemp("a") / "gpu")


@pytest.fixture
def artefact(
    compiled: gcompile.Compiled,
    fake: FakeDriver,
    fake_card: FakeCard,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Its folder, on a machine whose driver knows its kernels and whose counter is quick."""
    fake.know(lower_model(compiled.model, load_target(_TARGET), 80).program.kernels, tmp_path)
    monkeypatch.setattr(NvmlMeter, "update_s", 0.001)
    return compiled.artifact.folder


def test_joules_come_from_nvml_beside_the_estimate(artefact: Path, call: Call) -> None:
    outcome = call("bench", artefact, *_MEASURE, *_QUICK)
    assert outcome.code == 0, outcome.err
    result = BenchResult.model_validate_json(outcome.out)
    energy = result.energy
    assert energy.provenance == "measured"
    assert energy.method == "NVML's energy counter of GPU 0"
    assert energy.power_w == pytest.approx(120, rel=0.2)
    assert energy.joules_per_inference is not None
    each_s = energy.repeats * energy.window_s / energy.inferences  # type: ignore[operator]
    assert energy.joules_per_inference == pytest.approx(120 * each_s, rel=0.2)
    assert result.predicted is not None
    assert result.predicted.provenance == "estimated"


def test_a_power_cap_is_held_while_it_is_measured(
    artefact: Path, call: Call, fake_card: FakeCard
) -> None:
    outcome = call("bench", artefact, *_QUICK, "--apply-power-cap", "250W")
    assert outcome.code == 0, outcome.err
    assert BenchResult.model_validate_json(outcome.out).power_limit_w == 250
    assert fake_card.limit_w == 400
    shown = call("bench", artefact, *_QUICK[:4], "--apply-power-cap", "250")
    assert "power limit" in shown.out
    assert "GPU memory" in shown.out


def test_without_permission_nothing_is_measured(
    artefact: Path, call: Call, fake_card: FakeCard
) -> None:
    fake_card.state.is_administrator = 0
    outcome = call("bench", artefact, *_QUICK, "--apply-power-cap", "250")
    assert (outcome.code, outcome.out) == (4, "")
    assert "administrators alone" in outcome.err


def test_a_cap_is_for_gpus(call: Call, tmp_path: Path) -> None:
    gcompile.compile(ROOT / "examples" / "digits_cnn.onnx", output=tmp_path / "cpu")
    outcome = call("bench", tmp_path / "cpu", *_QUICK, "--apply-power-cap", "250")
    assert outcome.code == 2
    assert "is for NVIDIA GPUs" in outcome.err


def test_another_gpu_than_there_is_is_refused(artefact: Path, call: Call) -> None:
    for command in (("bench", artefact), ("run", artefact, "--random")):
        outcome = call(*command, "--device", "3")
        assert outcome.code == 4
        assert "There is no GPU 3 here" in outcome.err


def test_the_report_says_what_lower_limits_and_clocks_should_cost(
    compiled: gcompile.Compiled,
) -> None:
    report = read_report(compiled.artifact.folder)
    assert report.power is not None
    assert [round(p.clock_hz / 1e6) for p in report.power.clocks] == [1269, 1128, 987, 846, 705]
    assert any(note.startswith("Predicted at 400 W and 1410 MHz") for note in report.notes)


@pytest.mark.parametrize("text", ["", "W", "0", "-5", "5kW", "5s", "many"])
def test_what_is_no_power_is_a_usage_error(text: str) -> None:
    assert parse_watts("300W") == parse_watts("300") == 300
    with pytest.raises(UsageError, match="300 or 300W"):
        parse_watts(text)
