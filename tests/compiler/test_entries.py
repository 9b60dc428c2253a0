"""Several models in one artefact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile import ir, runtime
from gcompile.backends.tvm.join import ArtifactJoin
from gcompile.backends.tvm.lowering.memory import array_of
from gcompile.errors import RunError, UnknownNameError, UsageError
from gcompile.report import read_report
from gcompile.report.text import to_text
from tests.backends.tvm.lowering.compiling import parse

TABLE_BYTES = 50 * 64 * 4
PANEL_BYTES = 64 * 64 * 4


def language_model(tokens: int) -> ir.Model:
    """An embedding and a product, for so many tokens at a time."""
    return parse(f"""
        g (int64[1,{tokens}] input_ids) => (float[1,{tokens},50] logits)
        <float[50,64] table, float[64,50] w> {{
            x = Gather(table, input_ids)
            logits = MatMul(x, w)
        }}""")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> gcompile.CompiledEntries:
    folder = tmp_path_factory.mktemp("entries") / "out"
    models = {
        "prefill": gcompile.Entry(language_model(16)),
        "decode": gcompile.Entry(lambda: language_model(1)),
    }
    return gcompile.compile_entries(models, output=folder)


def test_entry_points_compute_the_same_function(built: gcompile.CompiledEntries) -> None:
    runners = runtime.load_entries(built.folder)
    ids = np.arange(16)[None] % 50
    whole = runners["prefill"].run({"input_ids": ids})["logits"]
    for at in range(16):
        one = runners["decode"].run({"input_ids": ids[:, at : at + 1]})["logits"]
        np.testing.assert_allclose(one[0, 0], whole[0, at], rtol=1e-5, atol=1e-6)


def test_entry_points_share_their_weights(built: gcompile.CompiledEntries) -> None:
    manifest = runtime.Manifest.read(built.folder)
    prefill, decode = manifest.variants
    assert (prefill.entry, decode.entry) == ("prefill", "decode")
    assert set(prefill.weights) == set(decode.weights) == {0, 1}
    assert (built.folder / "weights.bin").stat().st_size == TABLE_BYTES + PANEL_BYTES


def test_the_artefact_holds_code_model_report_and_ledger_of_each(
    built: gcompile.CompiledEntries,
) -> None:
    names = {path.name for path in built.folder.iterdir()}
    for entry in ("prefill", "decode"):
        assert {f"{entry}.so", f"{entry}.onnx", f"{entry}.ledger.json"} <= names
        report = read_report(built.folder / f"{entry}.report.json")
        assert report == built.reports[entry]
    assert read_report(built.folder) == built.report


def test_joules_are_told_per_token(built: gcompile.CompiledEntries) -> None:
    prefill, decode = built.report.entries
    assert (prefill.tokens, decode.tokens) == (16, 1)
    assert prefill.energy_per_token_j == prefill.energy.energy_j / 16
    assert decode.energy_per_token_j == decode.energy.energy_j
    text = to_text(built.report)
    assert "16 in an inference (per token)" in text
    assert "entry decode" in text


def test_an_entry_point_must_be_named_and_exist(built: gcompile.CompiledEntries) -> None:
    with pytest.raises(RunError, match="several entry points, prefill, decode"):
        runtime.load(built.folder)
    with pytest.raises(UnknownNameError, match="Unknown entry point 'encode'"):
        runtime.load(built.folder, entry="encode")
    assert runtime.load(built.folder, entry="decode").inputs[0].shape == (1, 1)


def test_models_that_differ_in_weights_only_share_their_library(tmp_path: Path) -> None:
    def layer(seed: int) -> ir.Model:
        text = "g (float[1,64] x) => (float[1,64] y) <float[64,64] w> { y = MatMul(x, w) }"
        return parse(text, seed)

    models = {name: gcompile.Entry(layer(seed), tokens=1) for seed, name in enumerate("ab")}
    built = gcompile.compile_entries(models, output=tmp_path / "out", with_models=False)
    assert len(list(built.folder.glob("*.so"))) == 1
    assert not list(built.folder.glob("*.onnx"))
    assert [entry.tokens for entry in built.report.entries] == [1, 1]
    x = np.ones((1, 64), np.float32)
    outputs = [runner.run({"x": x})["y"] for runner in runtime.load_entries(built.folder).values()]
    for seed, output in enumerate(outputs):
        weight = array_of(layer(seed).graph.initializers["w"])
        np.testing.assert_allclose(
            output, x.astype("float64") @ weight.astype("float64"), rtol=1e-4, atol=1e-5
        )


def test_a_target_is_a_variant_of_each_entry_point(tmp_path: Path) -> None:
    models = {"prefill": language_model(2), "decode": language_model(1)}
    built = gcompile.compile_entries(models, "x86-64-v3,cpu", output=tmp_path / "out")
    manifest = runtime.Manifest.read(built.folder)
    assert {(variant.entry, variant.name) for variant in manifest.variants} == {
        (entry, target) for entry in models for target in ("x86-64-v3", "cpu")
    }
    assert runtime.load(built.folder, entry="decode", variant="x86-64-v3").inputs


@pytest.mark.parametrize("name", ["", "../up", "a b", ".hidden"])
def test_names_become_file_names_and_are_checked(name: str) -> None:
    with pytest.raises(UsageError, match="is no name"):
        gcompile.compile_entries({name: language_model(1)})


def test_an_artefact_needs_an_entry_point(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No entry points"):
        gcompile.compile_entries({})
    with pytest.raises(UsageError, match="none was given"):
        ArtifactJoin(tmp_path).finish("ok")


def test_entry_points_are_compiled_for_the_same_threads(tmp_path: Path) -> None:
    one = gcompile.compile(language_model(1), output=tmp_path / "one")
    join = ArtifactJoin(tmp_path)
    join.add("one", one.artifact.folder)
    two = gcompile.compile(language_model(1), output=tmp_path / "two")
    manifest = runtime.Manifest.read(two.artifact.folder)
    replace(manifest, threads=2).write(two.artifact.folder)
    with pytest.raises(UsageError, match="for 2 threads and others for 1"):
        join.add("two", two.artifact.folder)
