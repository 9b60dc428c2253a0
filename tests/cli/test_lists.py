from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from gcompile.cli.doctor import satisfies
from tests.cli.conftest import Outcome

Call = Callable[..., Outcome]


def test_targets_are_listed_with_their_uncertainty(call: Call) -> None:
    outcome = call("targets")
    assert outcome.code == 0
    assert "raspberry-pi-4b" in outcome.out
    assert call("targets", "list").out == outcome.out


def test_targets_as_json_have_names(call: Call) -> None:
    names = {
        entry["name"] for entry in json.loads(call("targets", "list", "--format", "json").out)
    }
    assert {"cpu", "raspberry-pi-4b", "nvidia-a100-sxm-80"} <= names


def test_a_target_is_shown_with_the_source_of_its_numbers(call: Call) -> None:
    outcome = call("targets", "show", "raspberry-pi-4b")
    assert outcome.code == 0
    assert "sources" in outcome.out
    data = json.loads(call("targets", "show", "raspberry-pi-4b", "--format", "json").out)
    assert data["name"] == "raspberry-pi-4b"
    assert data["memories"]


def test_an_unknown_target_exits_2(call: Call) -> None:
    outcome = call("targets", "show", "raspberry")
    assert outcome.code == 2
    assert "Known targets" in outcome.err


def test_passes_are_listed_with_numerics_options_and_purpose(call: Call) -> None:
    entries = json.loads(call("passes", "--format", "json").out)
    fold = next(entry for entry in entries if entry["name"] == "fold-batch-norm")
    assert fold["numerics"] in {"exact", "rounding"}
    assert fold["doc"]
    assert "fold-batch-norm" in call("passes").out


def test_a_missing_plugin_is_a_usage_error(call: Call) -> None:
    outcome = call("passes", "--plugin", "no_such_module_anywhere")
    assert outcome.code == 2
    assert "no_such_module_anywhere" in outcome.err


def test_the_doctor_finds_this_environment_healthy(call: Call) -> None:
    outcome = call("doctor", "--format", "json")
    findings = {finding["name"]: finding for finding in json.loads(outcome.out)}
    assert [name for name, finding in findings.items() if not finding["ok"]] == []
    assert outcome.code == 0
    assert {"apache-tvm", "import tvm", "onnxruntime", "threads", "linker"} <= set(findings)


@pytest.mark.parametrize(
    ("found", "ranges", "holds"),
    [
        ("0.27.0.post1", "==0.27.0.post1", True),
        ("0.27.0", "==0.27.0.post1", False),
        ("0.1.14.post1", ">=0.1.14.post0,<0.1.15", True),
        ("0.1.15", ">=0.1.14.post0,<0.1.15", False),
        ("2.13.0+cpu", "==2.13.0", True),
        ("1.10", ">=1.9", True),
        ("1.0", "", True),
    ],
)
def test_versions_are_compared_as_numbers(found: str, ranges: str, holds: bool) -> None:
    assert satisfies(found, ranges) is holds
