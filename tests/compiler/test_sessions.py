"""Entry points that share a state: a cache of rows, and a sum."""

from __future__ import annotations

import numpy as np
import pytest

import gcompile
from gcompile import ir, runtime
from gcompile.errors import RunError, UnknownNameError
from gcompile.runtime import Session
from tests.backends.tvm.lowering.compiling import parse

ROWS, SIZE = 12, 8


def writer(count: int, rows: int = ROWS) -> ir.Model:
    """Write rows into a cache, and sum the cache."""
    text = f"""
        g (int64[{count}] position, float[1,{count},{SIZE}] new, float[1,{rows},{SIZE}] past_key)
        => (float[1,{SIZE}] total, float[1,{rows},{SIZE}] present_key)
        <int64[3] one, int64[3] wide, int64[1] axis> {{
            at = Reshape(position, one)
            i = Expand(at, wide)
            present_key = ScatterElements<axis = 1>(past_key, i, new)
            total = ReduceSum<keepdims = 0>(present_key, axis)
        }}"""
    constants = {
        "one": np.array([1, count, 1]),
        "wide": np.array([1, count, SIZE]),
        "axis": np.array([1]),
    }
    return parse(text, constants=constants)


@pytest.fixture(scope="module")
def runners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, runtime.Runner]:
    folder = tmp_path_factory.mktemp("session") / "out"
    gcompile.compile_entries({"many": writer(3), "one": writer(1)}, output=folder)
    return runtime.load_entries(folder)


def rows(count: int, at: int) -> dict[str, np.ndarray]:
    new = np.full((1, count, SIZE), 1.0 + at, np.float32)
    return {"position": np.arange(at, at + count), "new": new}


def test_what_one_entry_point_writes_another_reads(runners: dict[str, runtime.Runner]) -> None:
    session = Session(runners)
    assert session.carried == {"present_key": "past_key"}
    assert session.run("many", rows(3, 0))["total"][0, 0] == 3
    found = session.run("one", rows(1, 3))
    assert list(found) == ["total"]
    assert found["total"].tolist() == [[7] * SIZE]
    state = session.state()["past_key"]
    assert state[0, :, 0].tolist() == [1, 1, 1, 4] + [0] * (ROWS - 4)
    session.reset()
    assert session.run("one", rows(1, 5))["total"][0, 0] == 6


def test_a_state_that_is_written_in_place_never_moves(
    runners: dict[str, runtime.Runner],
) -> None:
    session = Session(runners)
    addresses = set()
    for at in range(3):
        session.run("one", rows(1, at))
        addresses.add(np.from_dlpack(session._states["past_key"]).ctypes.data)
    assert len(addresses) == 1


def test_sessions_have_states_of_their_own(runners: dict[str, runtime.Runner]) -> None:
    one, other = Session(runners), Session(runners)
    one.run("one", rows(1, 0))
    assert not other.state()["past_key"].any()


def test_a_state_that_is_computed_anew_is_carried_too() -> None:
    text = """
        g (float[1,4] x, float[1,4] past_key_values_sum)
        => (float[1,4] twice, float[1,4] present_sum) {
            present_sum = Add(x, past_key_values_sum)
            twice = Add(present_sum, present_sum)
        }"""
    session = Session({"main": gcompile.compile(parse(text)).artifact.runner})
    x = np.arange(4, dtype=np.float32)[None]
    for count in (1, 2, 3):
        np.testing.assert_array_equal(session.run("main", {"x": x})["twice"], 2 * count * x)
    named = Session(session.runners, {"twice": "past_key_values_sum"})
    named.run("main", {"x": x})
    found = named.run("main", {"x": x})
    np.testing.assert_array_equal(found["present_sum"], 3 * x)


def test_what_is_no_input_is_refused(runners: dict[str, runtime.Runner]) -> None:
    session = Session(runners)
    with pytest.raises(UnknownNameError, match="Unknown entry point 'two'"):
        session.run("two", {})
    with pytest.raises(RunError, match=r"is given no 'past_key'; give position, new"):
        session.run("one", rows(1, 0) | {"past_key": np.zeros((1, ROWS, SIZE), np.float32)})
    with pytest.raises(RunError, match="'new' is missing"):
        session.run("one", {"position": np.array([0])})


def test_entry_points_for_other_caches_do_not_join(runners: dict[str, runtime.Runner]) -> None:
    longer = gcompile.compile(writer(1, rows=20)).artifact.runner
    with pytest.raises(RunError, match="another type or shape"):
        Session(runners | {"longer": longer})
