"""An artefact with code for several machines: the best that runs is loaded."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gcompile.errors import ArtifactError, UnknownNameError
from gcompile.runtime import FileRecord, Manifest, Variant, load, rows
from gcompile.runtime.isa import host_platform
from gcompile.runtime.variants import best_first, runnable_variants
from gcompile.runtime.weights import WeightsWriter

LOAD = importlib.import_module("gcompile.runtime.load")
HERE = host_platform()
SMALL = Variant("small", "v3", HERE, ("avx2", "fma"), "small.so")
LARGE = Variant("large", "v4", HERE, ("avx2", "avx512f", "fma"), "large.so")
ALIEN = Variant("board", "board", "linux-riscv64", ("v",), "board.so")


@pytest.fixture
def several(artefact: Path) -> Path:
    """An artefact whose variants have the same code, and say that they need other machines."""
    manifest = Manifest.read(artefact)
    library = (artefact / "model.so").read_bytes()
    variants = best_first((SMALL, ALIEN, LARGE))
    for variant in variants:
        (artefact / variant.library).write_bytes(library)
    files = {v.library: FileRecord.of(artefact / v.library) for v in variants}
    replace(manifest, variants=variants, files=files).write(artefact)
    return artefact


@pytest.mark.parametrize(
    ("flags", "chosen"),
    [({"avx2", "fma"}, "small"), ({"avx2", "fma", "avx512f"}, "large")],
)
def test_the_variant_that_needs_most_of_what_is_here_is_loaded(
    several: Path, monkeypatch: pytest.MonkeyPatch, flags: set[str], chosen: str
) -> None:
    monkeypatch.setattr(LOAD, "cpu_flags", lambda: frozenset(flags))
    assert load(several).variant.name == chosen


def test_a_variant_can_be_asked_for(
    several: Path, monkeypatch: pytest.MonkeyPatch, inputs: dict[str, np.ndarray]
) -> None:
    monkeypatch.setattr(LOAD, "cpu_flags", lambda: frozenset({"avx2", "fma", "avx512f"}))
    runner = load(several, variant="small")
    assert runner.variant == SMALL
    assert runner.run(inputs)["next"][0] == 8


def test_a_variant_that_is_asked_for_must_run_and_exist(several: Path) -> None:
    with pytest.raises(ArtifactError, match="variant 'board': it was compiled for linux-riscv64"):
        load(several, variant="board")
    with pytest.raises(UnknownNameError, match="Known variants: board, large, small"):
        load(several, variant="medium")


def test_where_none_runs_each_says_why(several: Path) -> None:
    with pytest.raises(ArtifactError) as caught:
        runnable_variants(Manifest.read(several), "main", None, frozenset({"avx2"}))
    text = str(caught.value)
    assert "variant 'large': it needs CPU instructions this machine lacks: avx512f, fma" in text
    assert "variant 'small'" in text
    assert "variant 'board'" in text


def test_the_library_of_a_variant_that_is_not_loaded_is_checked_too(several: Path) -> None:
    (several / "board.so").write_bytes(b"changed")
    with pytest.raises(ArtifactError, match="hash differs"):
        load(several, variant="small")


def test_where_amx_is_not_granted_the_next_variant_is_loaded(
    several: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = Manifest.read(several)
    tiles = replace(LARGE, name="tiles", needs_amx=True)
    replace(manifest, variants=(tiles, SMALL)).write(several)
    flags = frozenset({"avx2", "fma", "avx512f"})
    monkeypatch.setattr(LOAD, "cpu_flags", lambda: flags)
    monkeypatch.setattr(LOAD, "_amx_is_granted", lambda module: False)
    assert load(several).variant.name == "small"
    with pytest.raises(ArtifactError, match="did not grant it"):
        load(several, variant="tiles")


def test_equal_weights_are_kept_once(tmp_path: Path) -> None:
    shared = WeightsWriter(tmp_path / "weights.bin")
    one, two = np.arange(6, dtype="float32"), np.ones(4, "int8")
    assert shared.add([one, two]) == (0, 1)
    assert shared.add([two.copy(), one.reshape(2, 3), one]) == (1, 2, 0)
    assert [spec.shape for spec in shared.specs] == [(6,), (4,), (2, 3)]


def test_a_file_of_rows_is_run_in_a_process_of_its_own(
    artefact: Path, inputs: dict[str, np.ndarray], tmp_path: Path
) -> None:
    given, found = tmp_path / "in.npz", tmp_path / "out.npz"
    order = ["x", "scale", "index", "mask", "half"]
    np.savez(given, *(np.stack([inputs[name]] * 3) for name in order))
    rows.run_rows(str(artefact), "test", str(given), str(found))
    with np.load(found) as arrays:
        second = [arrays[f"arr_{5 * row + 1}"].tolist() for row in range(3)]
    assert second == [[8, 2**40 + 1]] * 3
