"""A runner takes exactly the inputs the model was compiled for and says so otherwise."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from gcompile.errors import RunError
from gcompile.runtime import Runner, load

Inputs = dict[str, np.ndarray]


@pytest.fixture
def runner(artefact: Path) -> Runner:
    return load(artefact)


def _expected(inputs: Inputs) -> Inputs:
    scaled = inputs["x"] * inputs["scale"]
    return {
        "scaled": scaled,
        "next": inputs["index"] + 1,
        "masked": np.where(inputs["mask"], inputs["x"], scaled),
        "double": inputs["half"] * np.float16(2),
        "same": inputs["x"],
    }


def _assert_equal(actual: Inputs, expected: Inputs) -> None:
    assert list(actual) == list(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(actual[name], value, strict=True)


def test_every_kind_of_input_passes_through_and_nan_stays_nan(
    runner: Runner, inputs: Inputs
) -> None:
    _assert_equal(runner.run(inputs), _expected(inputs))
    assert np.isnan(runner.run(inputs)["scaled"]).any()


def test_unaligned_and_strided_arrays_are_copied_where_code_can_load_them(
    runner: Runner, inputs: Inputs
) -> None:
    raw = np.zeros(25, np.uint8)
    unaligned = raw[1:].view(np.float32).reshape(2, 3)
    unaligned[...] = inputs["x"]
    half = np.asfortranarray(inputs["half"])[:, ::-1]
    changed = inputs | {"x": unaligned, "half": half, "mask": inputs["mask"].T.copy().T}
    _assert_equal(runner.run(changed), _expected(changed))


def test_outputs_belong_to_the_caller(runner: Runner, inputs: Inputs) -> None:
    first = runner.run(inputs)
    kept = {name: value.copy() for name, value in first.items()}
    runner.run({name: np.zeros_like(value) for name, value in inputs.items()})
    _assert_equal(first, kept)
    first["same"][...] = 9
    _assert_equal(runner.run(inputs), _expected(inputs))


def test_a_missing_input_is_named(runner: Runner, inputs: Inputs) -> None:
    del inputs["index"]
    with pytest.raises(RunError, match=r"'index' is missing; give 'index' \(int64"):
        runner.run(inputs)


def test_an_unknown_input_is_named(runner: Runner, inputs: Inputs) -> None:
    with pytest.raises(RunError, match="no input 'y'"):
        runner.run(inputs | {"y": np.zeros(1)})


def test_another_dtype_is_refused_with_the_cast_to_make(runner: Runner, inputs: Inputs) -> None:
    with pytest.raises(RunError, match=r"float64 and the model takes float32.*astype"):
        runner.run(inputs | {"x": inputs["x"].astype("float64")})


@pytest.mark.parametrize("shape", [(3, 2), (1, 2, 3), (6,), ()])
def test_another_shape_is_refused(runner: Runner, inputs: Inputs, shape: tuple[int, ...]) -> None:
    with pytest.raises(RunError, match="shape"):
        runner.run(inputs | {"x": np.zeros(shape, "float32")})


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_rows_are_run_in_batches_and_the_last_one_is_filled_up(runner: Runner, rows: int) -> None:
    rng = np.random.default_rng(rows)
    inputs = {
        "x": rng.normal(size=(rows, 3)).astype("float32"),
        "scale": np.array(3, "float32"),
        "index": rng.integers(0, 9, rows),
        "mask": rng.random((rows, 3)) < 0.5,
        "half": rng.normal(size=(rows, 5)).astype("float16"),
    }
    _assert_equal(runner.run_rows(inputs), _expected(inputs))


def test_inputs_with_different_numbers_of_rows_are_refused(runner: Runner, inputs: Inputs) -> None:
    with pytest.raises(RunError, match="different numbers of rows"):
        runner.run_rows(inputs | {"x": np.zeros((3, 3), "float32")})


def test_a_prepared_call_runs_without_touching_the_runner(runner: Runner, inputs: Inputs) -> None:
    call = runner.prepare(inputs)
    call()
    call()
    _assert_equal(runner.run(inputs), _expected(inputs))


def test_threads_may_share_a_runner(runner: Runner, inputs: Inputs) -> None:
    def once(scale: int) -> Inputs:
        changed = inputs | {"scale": np.array(scale, "float32")}
        _assert_equal(runner.run(changed), _expected(changed))
        return changed

    with ThreadPoolExecutor(4) as pool:
        assert len(list(pool.map(once, range(40)))) == 40
