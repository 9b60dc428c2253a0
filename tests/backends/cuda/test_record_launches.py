"""Launches that are kept can be read by numpy alone."""

from __future__ import annotations

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from gcompile.backends.cuda.kernel import Access, Argument, Kernel
from tests.backends.cuda.record_launches import Recorder


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("float32", "float32"),
        ("int8", "int8"),
        ("bool", "bool"),
        ("bfloat16", "uint16"),
        ("float8_e4m3fn", "uint8"),
        ("float8_e5m2", "uint8"),
    ],
)
def test_arguments_are_kept_before_and_after(tmp_path: Path, name: str, kept: str) -> None:
    dtype = np.dtype(getattr(ml_dtypes, name, name))
    arguments = (Argument("x", name, 4), Argument("y", name, 4, Access.WRITE))
    kernel = Kernel("k", "text", (1, 1, 1), (32, 1, 1), arguments)
    ones, zeros = np.ones((2, 2), dtype), np.zeros((2, 2), dtype)
    Recorder(tmp_path)(kernel, [ones, zeros], [ones, ones])
    Recorder(tmp_path)(kernel, [ones, zeros], [ones, ones])
    (path,) = tmp_path.glob("*.npz")
    with np.load(path) as file:
        assert {key: str(file[key].dtype) for key in file.files} == dict.fromkeys(
            ("before0", "before1", "after1"), kept
        )
        np.testing.assert_array_equal(file["after1"], file["before0"])
    about = json.loads(path.with_suffix(".json").read_text())
    assert about["kernel"]["arguments"][1]["access"] == "write"
    assert "test_arguments_are_kept" in about["test"]
