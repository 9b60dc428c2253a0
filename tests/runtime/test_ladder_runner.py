"""A model that was compiled for some sizes runs at others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.errors import RunError
from gcompile.runtime import EntryPoint, Manifest, TensorSpec, Variant
from gcompile.runtime.ladder import Dimension, Kind, Ladder
from gcompile.runtime.ladder_runner import LadderRunner
from gcompile.runtime.runner import Array, Runner


class Doubling(Runner):
    """y = 2x + bias, at one size; remembers how often it ran."""

    def __init__(self, manifest: Manifest, entry: EntryPoint) -> None:
        self.manifest, self.entry_point, self.variant = manifest, entry, manifest.variants[0]
        self.runs = 0

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        self.runs += 1
        arrays = self._checked(inputs)
        return {"y": 2 * arrays[0] + arrays[1]}

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], None]:
        return lambda: None


def ladder_runner(
    sizes: list[tuple[int, int]], positions: Kind = Kind.PADDED, launch_j: float = 1.0
) -> LadderRunner:
    """Rows by positions; the joules of a run are those of its elements and of its launch."""
    entries = tuple(
        EntryPoint(
            f"n{rows}-m{columns}",
            "m",
            (TensorSpec("x", "float32", (rows, columns)), TensorSpec("bias", "float32", ())),
            (TensorSpec("y", "float32", (rows, columns)),),
        )
        for rows, columns in sizes
    )
    variants = tuple(Variant("cpu", "cpu", "any", (), entry=entry.name) for entry in entries)
    dimensions = (
        Dimension("n", Kind.ROWS, (("x", 0),), (("y", 0),)),
        Dimension("m", positions, (("x", 1),), (("y", 1),)),
    )
    energy_j = {f"n{rows}-m{columns}": launch_j + rows * columns for rows, columns in sizes}
    ladder = Ladder(dimensions, energy_j)
    manifest = Manifest("0", "0", "ok", entries, variants, 1, {}, ladder=ladder)
    runners = {entry.name: Doubling(manifest, entry) for entry in entries}
    return LadderRunner(manifest, ladder, runners)


def runs(runner: LadderRunner) -> list[str]:
    """The entry points that ran, each as often as it did."""
    found = []
    for rung in runner.rungs:
        assert isinstance(rung.runner, Doubling)
        found += [rung.runner.entry_point.name] * rung.runner.runs
    return found


@given(
    rows=st.integers(1, 70),
    columns=st.integers(1, 9),
    sizes=st.sets(st.integers(1, 16), min_size=1, max_size=4),
    launch_j=st.floats(0.1, 100),
)
def test_every_size_that_fits_runs(
    rows: int, columns: int, sizes: set[int], launch_j: float
) -> None:
    runner = ladder_runner([(n, m) for n in sizes for m in (4, 9)], launch_j=launch_j)
    x = np.random.default_rng(rows).standard_normal((rows, columns)).astype(np.float32)
    bias = np.full((), 3, np.float32)
    for call in (runner.run, runner.run_rows):
        np.testing.assert_array_equal(call({"x": x, "bias": bias})["y"], 2 * x + bias)
    assert all(name.endswith("m4" if columns <= 4 else "m9") for name in runs(runner))


@pytest.mark.parametrize(
    ("launch_j", "expected"),
    [(0.01, ["n1-m4", "n4-m4", "n8-m4"]), (100, ["n16-m4"])],
    ids=["elements cost", "launches cost"],
)
def test_rows_are_divided_so_that_the_joules_are_least(
    launch_j: float, expected: list[str]
) -> None:
    runner = ladder_runner([(n, 4) for n in (1, 2, 4, 8, 16)], launch_j=launch_j)
    runner.run({"x": np.ones((13, 4), np.float32), "bias": np.zeros((), np.float32)})
    assert runs(runner) == expected


@pytest.mark.parametrize(
    ("shape", "kind", "problem"),
    [
        ((2, 10), Kind.PADDED, "No code was compiled for n=2, m=10, only for n=2, m=4; n=2, m=9"),
        ((2, 5), Kind.EXACT, "No code was compiled for n=2, m=5"),
        ((0, 4), Kind.PADDED, "No code was compiled for n=0"),
        ((2,), Kind.PADDED, r"has shape \(2,\), without m"),
    ],
)
def test_what_fits_no_compiled_size_is_refused(
    shape: tuple[int, ...], kind: Kind, problem: str
) -> None:
    runner = ladder_runner([(2, 4), (2, 9)], kind)
    with pytest.raises(RunError, match=problem):
        runner.run({"x": np.ones(shape, np.float32), "bias": np.zeros((), np.float32)})


def test_inputs_are_checked() -> None:
    runner = ladder_runner([(2, 4)])
    with pytest.raises(RunError, match="'x' is missing"):
        runner.run({"bias": np.zeros((), np.float32)})
    with pytest.raises(RunError, match="no input 'z'"):
        runner.run({"x": np.ones((2, 4), np.float32), "z": np.zeros((), np.float32)})


def test_only_a_compiled_size_is_timed() -> None:
    runner = ladder_runner([(2, 4)])
    assert (
        runner.prepare({"x": np.ones((2, 4), np.float32), "bias": np.zeros((), np.float32)})()
        is None
    )
    with pytest.raises(RunError, match="padding is not timed; take one of n=2, m=4"):
        runner.prepare({"x": np.ones((3, 4), np.float32), "bias": np.zeros((), np.float32)})
