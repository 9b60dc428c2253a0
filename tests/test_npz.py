from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gcompile.errors import UsageError
from gcompile.npz import read_arrays, write_arrays


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    arrays = {"x": np.eye(3, dtype="float32"), "a/b=c": np.array(7), "half": np.ones(2, "float16")}
    write_arrays(tmp_path / "x.npz", arrays)
    read = read_arrays(tmp_path / "x.npz")
    assert set(read) == set(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array)
        assert read[name].dtype == array.dtype


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UsageError, match="plain arrays"):
        read_arrays(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x04N.", b"text"])
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UsageError, match="cannot be read"):
        read_arrays(tmp_path / "x.npz")


def test_a_truncated_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    write_arrays(tmp_path / "x.npz", {"x": np.zeros(1000)})
    content = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(UsageError, match="cannot be read"):
        read_arrays(tmp_path / "x.npz")


def test_a_missing_file_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_arrays(tmp_path / "x.npz")


def test_a_bare_array_is_refused_in_a_sentence(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(2))
    with pytest.raises(UsageError, match=r"np\.savez"):
        read_arrays(tmp_path / "x.npy")


def test_nothing_is_left_where_writing_is_impossible(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be written"):
        write_arrays(tmp_path / "none" / "x.npz", {"x": np.zeros(1)})
