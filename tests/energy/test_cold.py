"""The first inference costs more, and by its weights."""

from __future__ import annotations

import pytest

from gcompile.energy import ColdStart, Roofline, estimate
from tests.energy.models import matmul, mlp
from tests.targets.test_detect import detect_recorded

_ZEN5 = detect_recorded("zen5-virtual")


def test_a_cold_start_reads_every_weight_from_main_memory() -> None:
    model = mlp(64, 128, 10)
    steady, cold = (estimate(model, _ZEN5, by).total for by in (Roofline(), ColdStart()))
    assert steady.movement_j["DRAM"] == 0
    weights = 4 * (64 * 128 + 128 + 128 * 10 + 10)
    dram = _ZEN5.memories[-1]
    assert cold.movement_j["DRAM"] == pytest.approx(weights * dram.byte_j, rel=0.1)
    assert cold.time_s > steady.time_s


def test_weights_larger_than_every_cache_are_always_cold() -> None:
    model = matmul(1, 8192, 8192)
    steady, cold = (estimate(model, _ZEN5, by).total for by in (Roofline(), ColdStart()))
    assert cold.movement_j["DRAM"] == pytest.approx(steady.movement_j["DRAM"], rel=0.01)
