"""One call from a model to code that was verified."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile import ir, runtime
from gcompile.backends.tvm.lowering import products
from gcompile.errors import (
    TargetError,
    UnsupportedOperatorsError,
    UsageError,
    VerificationError,
)
from gcompile.report import read_report
from gcompile.report.schema import packaged_schema
from tests.backends.tvm.lowering.compiling import parse
from tests.compiler.task import free, task

PLAIN = "g (float[1,6] x) => (float[1,4] y) <float[6,4] w> { m = Gemm(x, w) y = Relu(m) }"


def test_the_folder_holds_code_model_and_reports(tmp_path: Path) -> None:
    built = gcompile.compile(parse(PLAIN), output=tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"model.so", "model.onnx", "manifest.json", "report.json", "report.md"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert built.artifact.folder == tmp_path / "out"
    assert ir.load(tmp_path / "out" / "model.onnx").graph.outputs[0].name == "y"
    x = np.ones((1, 6), np.float32)
    loaded = runtime.load(tmp_path / "out").run({"x": x})
    np.testing.assert_array_equal(loaded["y"], built.artifact.run({"x": x})["y"])


def test_the_report_on_disk_is_the_one_given_and_follows_its_schema(tmp_path: Path) -> None:
    built = gcompile.compile(parse(PLAIN), output=tmp_path / "out")
    assert read_report(tmp_path / "out") == built.report
    written = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    schema = json.loads(packaged_schema("report.schema.json"))
    assert set(schema["required"]) <= set(written) <= set(schema["properties"])
    assert written["status"] == "ok"


def test_every_joule_in_the_report_is_a_number_that_adds_up() -> None:
    given = task()
    report = gcompile.compile(given.model, precision="int8", calib=given.calib).report
    for energy in (report.energy.before, report.energy.exact, report.energy.after):
        parts = (energy.compute_j, *energy.movement_j.values(), energy.launch_j, energy.static_j)
        assert all(np.isfinite(part) and part >= 0 for part in parts)
        assert sum(parts) == pytest.approx(energy.energy_j)
        assert energy.low_j <= energy.energy_j <= energy.high_j
        assert 0 < energy.time_s < 1
    layers = sum(layer.energy_j for layer in report.layers)
    assert layers == pytest.approx(report.energy.after.energy_j)
    assert all(np.isfinite([entry.before_j, entry.after_j]).all() for entry in report.passes)


@pytest.mark.parametrize("kind", ["float", "float16"])
@pytest.mark.parametrize("precision", [None, "bf16", "int8"])
def test_the_model_of_the_caller_stays_as_it_is(kind: str, precision: str | None) -> None:
    model = parse(f"""
        g ({kind}[1,3,6,6] x) => ({kind}[1,4,6,6] y)
        <{kind}[4,3,3,3] w, {kind}[4] s, {kind}[4] b, {kind}[4] m, {kind}[4] v = {{1, 2, 3, 4}}> {{
            c = Conv<pads = [1,1,1,1]>(x, w)
            n = BatchNormalization(c, s, b, m, v)
            i = Identity(n)
            y = Relu(i)
        }}""")
    before = ir.to_proto(model).SerializeToString(deterministic=True)
    dtype = "float32" if kind == "float" else kind
    rows = {"x": np.random.default_rng(0).standard_normal((4, 3, 6, 6)).astype(dtype)}
    built = gcompile.compile(model, precision=precision, calib=rows)
    assert ir.to_proto(model).SerializeToString(deterministic=True) == before
    assert built.model is not model


@pytest.mark.parametrize("precision", [None, "int8"])
def test_two_builds_are_the_same_bytes(tmp_path: Path, precision: str | None) -> None:
    given = task()
    digests = []
    for name in ("one", "two"):
        gcompile.compile(
            given.model, precision=precision, calib=given.calib, output=tmp_path / name
        )
        files = (tmp_path / name / "model.so", tmp_path / name / "model.onnx")
        digests.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in files])
    assert digests[0] == digests[1]


def test_without_an_output_the_artefact_lies_in_a_temporary_folder() -> None:
    built = gcompile.compile(parse(PLAIN))
    assert built.artifact.folder.parent == Path(tempfile.gettempdir())
    assert (built.artifact.folder / "model.so").is_file()


def _wrong_bias(value: ir.Value | None, channels: int) -> ir.Array:
    return np.ones(channels)


@pytest.mark.parametrize("named", [True, False])
def test_code_that_disagrees_is_refused_and_leaves_nothing(
    named: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "constant_bias", _wrong_bias)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(VerificationError, match=r"'y'.*differs from ONNX Runtime.*not written"):
        gcompile.compile(parse(PLAIN), output=tmp_path / "out" if named else None)
    assert list(tmp_path.iterdir()) == []


def test_an_artefact_is_kept_where_the_next_build_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gcompile.compile(parse(PLAIN), output=tmp_path / "out")
    before = (tmp_path / "out" / "model.so").read_bytes()
    monkeypatch.setattr(products, "constant_bias", _wrong_bias)
    with pytest.raises(VerificationError):
        gcompile.compile(parse(PLAIN), output=tmp_path / "out")
    assert (tmp_path / "out" / "model.so").read_bytes() == before


def test_unsupported_operators_are_all_named_before_code_is_generated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*arguments: object) -> None:
        raise AssertionError("code was generated")

    monkeypatch.setattr("gcompile.compiler.native.generate", never)
    text = """
        g (float[1,3,4,4] x, float[1,5] boxes) => (float[1,3,2,2] y, float[1,3,4,4] z) {
            a = MaxRoiPool<pooled_shape = [4, 4]>(x, boxes)
            y = MaxRoiPool<pooled_shape = [2, 2]>(a, boxes)
            z = RandomNormalLike(x)
        }"""
    with pytest.raises(UnsupportedOperatorsError) as caught:
        gcompile.compile(parse(text), output=tmp_path / "out")
    assert caught.value.nodes_by_operator == {
        "MaxRoiPool": ["MaxRoiPool_a", "MaxRoiPool_y"], "RandomNormalLike": ["RandomNormalLike_z"],
    }  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_operators_that_fold_away_need_no_support() -> None:
    text = """
        g (float[1,2] x) => (float[1,2] y) <float[1,2] k = {1.0, -2.0}> {
            c = LpNormalization(k)
            y = Add(x, c)
        }"""
    assert gcompile.compile(parse(text)).report.status == "ok"


def test_code_for_a_device_without_a_code_generator_is_refused() -> None:
    with pytest.raises(TargetError, match="gcompile estimate"):
        gcompile.compile(parse(PLAIN), "eyeriss-like")


def test_free_dimensions_are_bound_and_noted() -> None:
    text = "g (float[N,6] x) => (float[N,4] y) <float[6,4] w> { y = MatMul(x, w) }"
    report = gcompile.compile(free(text)).report
    assert any("N is bound to 1" in note for note in report.notes)


def test_a_pipeline_may_replace_the_exact_passes() -> None:
    text = "g (float[1,6] x) => (float[1,6] y) { i = Identity(x) y = Relu(i) }"
    built = gcompile.compile(parse(text), passes="remove-dead-nodes")
    assert "Identity" in [node.op_type for node in built.model.graph]
    names = [entry.name for entry in built.report.passes]
    assert "remove-dead-nodes" in names
    assert "eliminate-identity" not in names


def test_progress_is_told_with_growing_fractions_of_each_stage() -> None:
    told: list[tuple[str, float]] = []
    gcompile.compile(parse(PLAIN), progress=lambda what, done: told.append((what, done)))
    assert [what for what, _ in told] == ["exact passes", "generating code", "verifying"]
    assert all(0 <= done <= 1 for _, done in told)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"precision": "int8"}, "--calib"),
        ({"precision": "int3"}, "Known precisions: fp32, bf16, int8"),
        (
            {"precision": "mxfp8"},
            "does not compute in mxfp8. It computes in: fp32, bf16, fp16, int8",
        ),
        (
            {"precision": "mxint8"},
            "does not compute in mxint8. It computes in: fp32, bf16, fp16, int8",
        ),
        (
            {"precision": "fp8", "target": "nvidia-rtx4090"},
            "computes in fp8, but gcompile has code for fp32, bf16, int8, fp16 alone there",
        ),
        ({"budget": "50"}, "unit"),
        ({"max_drop": "a lot"}, "a lot"),
        ({"metric": "no.such:thing"}, "no.such"),
        ({"target": "toaster"}, "Known targets"),
        ({"calib": {"z": np.zeros((1, 6), np.float32)}}, "missing: x"),
        ({"calib": {"x": np.full((1, 6), np.nan, np.float32)}}, "NaN"),
        ({"evaluate": {"x": np.zeros((1, 6), np.float32)}}, "labels"),
        ({"shapes": {"q": (1, 6)}}, "q"),
    ],
)
def test_a_wrong_option_is_refused_in_a_sentence(options: Mapping[str, object], part: str) -> None:
    with pytest.raises(UsageError, match=part):
        gcompile.compile(parse(PLAIN), **options)  # type: ignore[arg-type]


def test_a_folder_of_other_things_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="not an artefact"):
        gcompile.compile(parse(PLAIN), output=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
