from __future__ import annotations

import json

import pytest

from gcompile.report.schema import SCHEMAS, packaged_schema, schema_text
from tests.report import examples


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_packaged_schema_is_the_one_the_models_give(name: str) -> None:
    assert packaged_schema(name) == schema_text(name), (
        "Run `python -m gcompile.report.schema` to write the schemas anew."
    )


def test_the_schema_of_the_report_requires_what_other_programs_read() -> None:
    schema = json.loads(packaged_schema("report.schema.json"))
    report = json.loads(examples.report().model_dump_json())
    assert set(schema["required"]) <= set(report) <= set(schema["properties"])
    assert {"status", "budget", "energy", "passes", "layers", "verify"} <= set(schema["required"])
    assert schema["additionalProperties"] is False


def test_the_schema_of_the_benchmark_names_its_figures() -> None:
    schema = json.loads(packaged_schema("bench.schema.json"))
    assert {"latency_s", "cpu_time_s", "throughput_per_s", "energy"} <= set(schema["required"])
    energy = schema["$defs"]["BenchEnergy"]
    assert set(energy["required"]) == {"joules_per_inference", "provenance", "method"}
    assert {"stdev_j", "repeats", "window_s", "idle_w", "boundary"} <= set(energy["properties"])
    assert set(energy["properties"]["provenance"]["enum"]) == {
        *("measured", "estimated", "unavailable"),
    }
