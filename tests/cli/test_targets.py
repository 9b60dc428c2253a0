"""`gcompile targets`: check files, and see where two of them differ."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from gcompile.targets.read import SHIPPED
from tests.cli.conftest import Outcome

Call = Callable[..., Outcome]


def test_sound_targets_are_said_to_be(call: Call) -> None:
    outcome = call("targets", "validate", "eyeriss-like", str(SHIPPED / "nvidia-t4.toml"))
    assert outcome.code == 0
    assert "nvidia-t4 is sound" in outcome.out
    assert "unverified" in outcome.out


def test_an_unsound_file_is_refused_by_its_key(call: Call, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text((SHIPPED / "nvidia-t4.toml").read_text().replace("1.59e+09", "1590"))
    outcome = call("targets", "validate", str(path))
    assert outcome.code != 0
    assert "'clock_hz'" in outcome.err


def test_two_targets_differ_in_what_stands_around_them(call: Call) -> None:
    outcome = call("targets", "diff", "nvidia-t4", "nvidia-t4-x4-server", "--format", "json")
    found = json.loads(outcome.out)
    assert found["boundary"] == ["board", "wall"]
    assert set(found) == {"boundary", "power.host_w", "power.supply_efficiency"}


def test_equal_targets_are_said_to_be(call: Call) -> None:
    outcome = call("targets", "diff", "x86-64-v3", "generic-x86-avx2")
    assert "have the same numbers" in outcome.out


def test_units_are_compared_by_name(call: Call) -> None:
    outcome = call("targets", "diff", "nvidia-a100-sxm-40", "nvidia-a100-sxm-80")
    assert "memories.DRAM.bytes_per_s" in outcome.out
    assert "1.555e+12" in outcome.out
