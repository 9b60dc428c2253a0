from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.search import Dataset, read_dataset

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def image_model() -> ir.Model:
    return ir.parse(HEADER + "g (float[1,1,4,4] x) => (float[1,1,4,4] y) { y = Relu(x) }")


def test_rows_lie_along_axis_0_of_a_model_of_batch_one(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((20, 1, 4, 4)).astype(np.float32)
    np.savez(tmp_path / "rows.npz", x=rows, labels=np.arange(20))
    found = read_dataset(tmp_path / "rows.npz", image_model(), "evaluation", needs_labels=True)
    assert found.count == 20
    np.testing.assert_array_equal(found.inputs["x"], rows)
    assert found.labels is not None
    assert found.labels.tolist() == list(range(20))


def test_each_row_may_be_a_whole_input() -> None:
    model = ir.parse(HEADER + "g (float[4,3] x) => (float[4,3] y) { y = Relu(x) }")
    found = read_dataset({"x": np.zeros((5, 4, 3), np.float32)}, model, "calibration")
    assert (found.count, found.inputs["x"].shape) == (5, (20, 3))


def test_a_model_of_batch_four_groups_rows() -> None:
    model = ir.parse(HEADER + "g (float[4,3] x) => (float[4,3] y) { y = Relu(x) }")
    found = read_dataset(
        {"x": np.zeros((8, 3), np.float32), "labels": np.arange(8)}, model, "evaluation"
    )
    first = found.first(1)
    assert (found.count, first.count, len(first.inputs["x"])) == (2, 1, 4)
    assert first.labels is not None
    assert first.labels.tolist() == [0, 1, 2, 3]


def test_the_first_rows_keep_their_labels() -> None:
    rows = Dataset({"x": np.arange(6)[:, None]}, 6, np.arange(6))
    assert rows.first(2).inputs["x"].tolist() == [[0], [1]]
    assert rows.first(99).count == 6


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "missing: x; unknown: none"),
        ({"z": np.zeros(3)}, "missing: x; unknown: z"),
        ({"x": np.zeros((3, 1, 4, 4))}, r"has dtype float64.*astype\('float32'\)"),
        ({"x": np.zeros((3, 4, 4), np.float32)}, r"has shape \(3, 4, 4\).*\(rows, 1, 4, 4\)"),
        ({"x": np.zeros((0, 1, 4, 4), np.float32)}, r"has shape \(0, 1, 4, 4\)"),
        (
            {"x": np.zeros((3, 1, 4, 4), np.float32), "labels": np.zeros(2)},
            "one label per row",
        ),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_one_sentence(
    arrays: dict[str, ir.Array], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_dataset(arrays, image_model(), "calibration")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_nan_and_infinity_are_refused_with_array_and_row(bad: float) -> None:
    rows = np.zeros((6, 1, 4, 4), np.float32)
    rows[4, 0, 2, 2] = bad
    with pytest.raises(UsageError, match=r"'x' of the calibration rows .* in row 4"):
        read_dataset({"x": rows}, image_model(), "calibration")


def test_missing_labels_are_refused_where_accuracy_is_wanted() -> None:
    with pytest.raises(UsageError, match="no array 'labels'"):
        read_dataset(
            {"x": np.zeros((2, 1, 4, 4), np.float32)},
            image_model(),
            "evaluation",
            needs_labels=True,
        )


def test_inputs_with_different_numbers_of_rows_are_refused() -> None:
    model = ir.parse(HEADER + "g (float[1,2] a, float[1,2] b) => (float[1,2] y) { y = Add(a, b) }")
    arrays = {"a": np.zeros((2, 2), np.float32), "b": np.zeros((3, 2), np.float32)}
    with pytest.raises(UsageError, match="a has 2, b has 3"):
        read_dataset(arrays, model, "calibration")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UsageError, match=r"cannot be read as .npz with plain arrays"):
        read_dataset(tmp_path / "rows.npz", image_model(), "calibration")


def test_a_file_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        read_dataset(tmp_path / "none.npz", image_model(), "calibration")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.npz").write_bytes(b"PK\x03\x04 truncated")
    with pytest.raises(UsageError, match=r"cannot be read as .npz"):
        read_dataset(tmp_path / "rows.npz", image_model(), "calibration")


def test_a_bare_array_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "rows.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(UsageError, match="holds one bare array"):
        read_dataset(tmp_path / "rows.npz", image_model(), "calibration")


def test_a_scalar_is_the_same_for_every_row() -> None:
    text = "g (float[1,2] x, int64 r) => (float[1,2] y) { f = Cast<to = 1>(r) y = Mul(x, f) }"
    model = ir.parse('<ir_version: 10, opset_import: ["" : 21]>' + text)
    arrays = {"x": np.ones((5, 2), np.float32), "r": np.array(16)}
    found = read_dataset(arrays, model, "calibration")
    assert found.count == 5
    piece = found.between(1, 3)
    assert piece.inputs["x"].shape == (2, 2)
    assert piece.inputs["r"].shape == ()
    with pytest.raises(UsageError, match=r"'r'.*takes"):
        read_dataset({**arrays, "r": np.full(5, 16)}, model, "calibration")
