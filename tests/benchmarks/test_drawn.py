"""Weights that are drawn on both sides: the same bytes, with the zeros that code relies on."""

from __future__ import annotations

import hashlib
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from benchmarks.gpu.bare.drawn import Drawn, like, read, save, to_bfloat16, write_weights


def test_the_bytes_are_the_same_everywhere() -> None:
    """A change of this digest makes archives disagree with the machines that run them."""
    digest = hashlib.sha256()
    for dtype in ("float32", "float16", "uint16", "int8", "uint8"):
        digest.update(Drawn(7, dtype, (3, 1001), 0.5).array().tobytes())
    assert digest.hexdigest()[:16] == "e304245b783d383e"


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint16", "int8"])
def test_spread_and_zeros_are_those_of_the_tensor_that_was_left_out(dtype: str) -> None:
    rng = np.random.default_rng(0)
    numbers = rng.standard_normal((64, 400)).astype(np.float32) * (20 if dtype == "int8" else 0.1)
    numbers[:, 392:] = 0
    given = to_bfloat16(numbers) if dtype == "uint16" else numbers.astype(dtype)
    found = like(given, 3).array()
    assert (found.dtype, found.shape) == (given.dtype, given.shape)
    assert not found[:, 392:].any()
    wide = [
        (a.view(ml_dtypes.bfloat16) if dtype == "uint16" else a)[:, :392].astype(np.float64)
        for a in (found, given)
    ]
    assert wide[0].std() == pytest.approx(wide[1].std(), rel=0.03)
    assert abs(wide[0].mean()) < 0.05 * wide[0].std()
    assert not np.array_equal(found, given)


def test_bfloat16_is_rounded_as_ml_dtypes_does() -> None:
    numbers = np.random.default_rng(0).standard_normal(10_000).astype(np.float32)
    numbers[:4] = [1.00390625, 1.01171875, 0.0, -0.0]
    expected = numbers.astype(ml_dtypes.bfloat16).view(np.uint16)
    np.testing.assert_array_equal(to_bfloat16(numbers), expected)


def test_an_artefact_gets_all_its_weights_in_order(tmp_path: Path) -> None:
    carried = np.arange(5, dtype=np.int32)
    drawn = Drawn(1, "float32", (2, 3), 1.0)
    recipes = tmp_path / "a.weights.json"
    save(recipes, [carried, drawn])
    first, second = read(recipes)
    np.testing.assert_array_equal(first, carried)
    np.testing.assert_array_equal(second, drawn.array())
    digest = write_weights(tmp_path, recipes)
    content = (tmp_path / "weights.bin").read_bytes()
    assert len(content) == 128
    assert content[64:88] == drawn.array().tobytes()
    assert digest == hashlib.sha256(content).hexdigest()
