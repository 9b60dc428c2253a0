"""Power limits are held for a while, and given back whatever happens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gcompile.errors import MeterError, UsageError
from gcompile.runtime.cuda import nvml
from gcompile.runtime.cuda.power_limit import power_limit
from tests.fake_gpu import FakeCard, FakeDriver

_HOLD = """
import sys, time
from gcompile.runtime.cuda.power_limit import power_limit
with power_limit(0, 250.0):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_limit_is_held_and_given_back(fake_card: FakeCard) -> None:
    fake_card.state.limit_mw = 350_000
    with power_limit(0, 250.0):
        assert fake_card.limit_w == 250
    assert fake_card.limit_w == 350


def test_an_error_gives_it_back(fake_card: FakeCard) -> None:
    with pytest.raises(ZeroDivisionError), power_limit(0, 250.0):
        _ = 1 / 0
    assert fake_card.limit_w == 400


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_process_gives_it_back(fake_card: FakeCard, number: signal.Signals) -> None:
    command = [sys.executable, "-c", _HOLD]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert fake_card.limit_w == 250
        process.send_signal(number)
        process.wait()
    for _ in range(200):
        if fake_card.limit_w == 400:
            break
        time.sleep(0.05)
    assert fake_card.limit_w == 400


def test_who_may_not_set_it_is_told_so(fake_card: FakeCard) -> None:
    fake_card.state.is_administrator = 0
    with (
        pytest.raises(MeterError, match=r"administrators alone; run as root, or leave") as error,
        power_limit(0, 250.0),
    ):
        pass
    assert error.value.exit_code == 4
    assert fake_card.limit_w == 400


def test_a_limit_that_the_card_does_not_take_is_refused(fake_card: FakeCard) -> None:
    with (
        pytest.raises(UsageError, match="takes power limits from 100 to 400 W, not 50 W"),
        power_limit(0, 50.0),
    ):
        pass


def test_without_nvml_one_sentence_says_so(
    fake: FakeDriver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(nvml.LIBRARY_VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(MeterError, match="cannot be set here: NVML"), power_limit(0, 250.0):
        pass


def test_a_limit_that_stays_is_told_with_the_remedy(fake_card: FakeCard) -> None:
    with (
        pytest.raises(MeterError, match=r"nvidia-smi -i 0000:07:00.0 -pl 400"),
        power_limit(0, 250.0),
    ):
        fake_card.state.is_administrator = 0
