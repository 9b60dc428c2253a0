"""What lower limits and clocks should cost; the model of power itself is tested in test_gpu."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gcompile.energy import Roofline
from gcompile.energy.power_advice import PowerAdvice, power_advice
from gcompile.ir import Precision
from gcompile.report.power import power_note, power_section
from gcompile.targets import load_target
from tests.energy.models import matmul

_A100 = load_target("nvidia-a100-sxm-80")
_HEAVY, _LIGHT = matmul(8192, 4096, 4096), matmul(8, 64, 64)


def _advice(heavy: bool = True) -> PowerAdvice:
    model = _HEAVY if heavy else _LIGHT
    found = power_advice(model, _A100, Roofline().at(Precision.FP16))
    assert found is not None
    return found


def test_lower_limits_take_longer_and_some_cost_less() -> None:
    advice = _advice()
    watts = [point.limit_w for point in advice.limits]
    times = [point.time_s for point in advice.limits]
    assert watts == sorted(watts, reverse=True)
    assert times == sorted(times)
    assert watts[-1] == 100
    best = advice.best_limit
    assert best is not None
    assert best.energy_j == min(point.energy_j for point in advice.limits)
    assert best.energy_j < advice.now.energy_j


def test_a_limit_above_the_draw_is_no_advice() -> None:
    assert _advice(heavy=False).limits == ()


def test_lower_clocks_are_priced_at_the_limit_of_the_target() -> None:
    clocks = [point.clock_hz / _A100.clock_hz for point in _advice().clocks]
    assert clocks == pytest.approx([0.9, 0.8, 0.7, 0.6, 0.5])
    assert {point.limit_w for point in _advice().clocks} == {400.0}


def test_the_advice_is_a_sentence_that_says_how_to_try_it() -> None:
    advice = _advice()
    note = power_note(advice)
    assert note.startswith("Predicted at 400 W and 1410 MHz:")
    assert advice.best_limit is not None
    assert f"--apply-power-cap {advice.best_limit.limit_w:g}`" in note
    assert len(power_section(advice).limits) == len(advice.limits)
    idle = replace(advice, limits=(), clocks=())
    assert power_note(idle).endswith("No lower power limit or clock should save joules.")


def test_other_devices_get_none() -> None:
    assert power_advice(_LIGHT, load_target("generic-x86-avx2"), Roofline()) is None
    assert power_advice(_LIGHT, replace(_A100, power=None), Roofline()) is None
