"""One artefact for many sizes of a model's free dimensions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gcompile
from gcompile import ir, runtime
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.compiler.ladder import Sizes, plan_ladder
from gcompile.errors import RunError, UsageError
from gcompile.report import read_report
from gcompile.report.text import to_text
from gcompile.runtime.ladder import Kind
from tests.compiler.task import free

IMAGES = """
    g (float[N,3,10,10] x) => (float[N,5] y) <float[6,3,3,3] w, float[6,5] v> {
        c = Conv<pads = [1,1,1,1]>(x, w)
        r = Relu(c)
        p = GlobalAveragePool(r)
        f = Flatten(p)
        y = Gemm(f, v)
    }"""
ATTENTION = """
    g (float[N,L,8] x, int64[N,L] mask) => (float[N,L,8] y)
    <float[8,8] wq, float[8,8] wk, int64[1] axis = {1}, float one = {1.0}, float much = {-1e9}> {
        q = MatMul(x, wq)
        k = MatMul(x, wk)
        t = Transpose<perm = [0,2,1]>(k)
        s = MatMul(q, t)
        m = Cast<to = 1>(mask)
        hidden = Sub(one, m)
        raised = Unsqueeze(hidden, axis)
        away = Mul(raised, much)
        masked = Add(s, away)
        p = Softmax(masked)
        y = MatMul(p, x)
    }"""
UNMASKED = ATTENTION.replace("masked = Add(s, away)", "masked = Identity(s)")
PEAKED = """
    g (float[1,L,8] x) => (float[1,L,8] y) <float much = {5.0}> {
        r = ReduceMax<keepdims = 1>(x, axis)
        c = Clip(r, much)
        y = Add(x, c)
    }""".replace("<float", "<int64[1] axis = {1}, float")
"""The largest number of all positions, at least 5: zeros do not change it, others do."""
TWICE = """
    g (float[1,L,4] x) => (float[1,M,4] y) { y = Concat<axis = 1>(x, x) }"""
MIXED = """
    g (float[N,4] x) => (float[N,4] y) { m = ReduceMean<keepdims = 1>(x, axes)  y = Sub(x, m) }
    """.replace("{ m", "<int64[1] axes = {0}> { m")


def assert_near(found: ir.Array, expected: ir.Array, share: float) -> None:
    """They differ by no more than a share of the expected range."""
    assert found.shape == expected.shape
    error = np.abs(found.astype(float) - expected.astype(float)).max()
    assert error <= share * np.abs(expected.astype(float)).max()


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_any_number_of_rows_runs(tmp_path: Path, precision: str | None) -> None:
    model = free(IMAGES)
    out = tmp_path / "out"
    built = gcompile.compile(model, dynamic={"N": "1..4"}, precision=precision, output=out)
    assert built.report == read_report(out)
    assert [entry.name for entry in built.report.entries] == ["N1", "N2", "N4"]
    runner = runtime.load(out)
    rng = np.random.default_rng(0)
    for count in (1, 3, 4, 6, 11):
        x = rng.standard_normal((count, 3, 10, 10)).astype(np.float32)
        expected = OnnxRuntime()(ir.prepare(model.clone(), sizes={"N": count}), {"x": x})["y"]
        assert_near(runner.run({"x": x})["y"], expected, 2e-2 if precision else 1e-4)
    assert runtime.load(out, entry="N2").inputs[0].shape == (2, 3, 10, 10)


def test_integers_are_decided_once(tmp_path: Path) -> None:
    model = free(IMAGES)
    rng = np.random.default_rng(1)
    calib = {"x": rng.standard_normal((9, 3, 10, 10)).astype(np.float32)}
    built = gcompile.compile(
        model, dynamic={"N": "1..4"}, precision="int8", calib=calib, output=tmp_path / "out"
    )
    alone = runtime.load(tmp_path / "out", entry="N1")
    x = rng.standard_normal((6, 3, 10, 10)).astype(np.float32)
    rows = np.concatenate([alone.run({"x": x[i : i + 1]})["y"] for i in range(6)])
    assert_near(built.artifact.run({"x": x})["y"], rows, 0.02)


def test_rows_and_masked_positions_run_together() -> None:
    model = free(ATTENTION)
    built = gcompile.compile(model, dynamic={"N": "1,2", "L": "3..8"})
    rng = np.random.default_rng(0)
    for rows, length in ((1, 3), (2, 8), (3, 5), (5, 7)):
        mask = np.ones((rows, length), np.int64)
        mask[-1, 2] = 0
        inputs: dict[str, ir.Array] = {
            "x": rng.standard_normal((rows, length, 8)).astype(np.float32),
            "mask": mask,
        }
        exact = ir.prepare(model.clone(), sizes={"N": rows, "L": length})
        found = built.artifact.run(inputs)["y"].astype(float)
        np.testing.assert_allclose(
            found, OnnxRuntime()(exact, inputs)["y"].astype(float), atol=1e-4
        )
    with pytest.raises(RunError, match="No code was compiled for N=1, L=9"):
        built.artifact.run({"x": np.ones((1, 9, 8), "f"), "mask": np.ones((1, 9), np.int64)})


def test_the_report_has_the_energy_of_every_size_and_a_fit() -> None:
    report = gcompile.compile(free(IMAGES), dynamic={"N": "1..8"}).report
    section = report.dynamic
    assert section is not None
    assert [point.sizes for point in section.points] == [{"N": n} for n in (1, 2, 4, 8)]
    assert [entry.energy.energy_j for entry in report.entries] == [
        point.energy_j for point in section.points
    ]
    assert report.energy.after.energy_j == section.points[0].energy_j
    for point in section.points:
        fitted = section.fit.terms["1"] + section.fit.terms["N"] * point.sizes["N"]
        off = abs(fitted - point.energy_j) / point.energy_j
        assert off <= section.fit.max_relative_error + 1e-9
    assert section.fit.max_relative_error < 0.1
    text = to_text(report)
    assert "compiled for 1, 2, 4, 8; any number of rows is divided among these" in text
    assert "energy by size" in text


def test_a_budget_is_one_of_the_first_size() -> None:
    built = gcompile.compile(free(IMAGES), dynamic={"N": "1..4"}, budget="1mJ")
    assert built.report.budget.met
    assert built.report.status == "ok"


def test_positions_without_a_mask_are_not_padded() -> None:
    with pytest.raises(UsageError, match="3 of 8 'L' cannot be filled up"):
        gcompile.compile(free(UNMASKED), dynamic={"L": "3..8"})
    with pytest.raises(UsageError, match="'y' still depends on 'x'"):
        gcompile.compile(free(PEAKED), dynamic={"L": "3..8"})
    built = gcompile.compile(free(UNMASKED), dynamic={"L": [3, 8]})
    x, mask = np.ones((1, 8, 8), np.float32), np.ones((1, 8), np.int64)
    assert built.artifact.run({"x": x, "mask": mask})["y"].shape == (1, 8, 8)
    with pytest.raises(RunError, match="No code was compiled for L=4"):
        built.artifact.run({"x": x[:, :4], "mask": mask[:, :4]})


def test_rows_that_influence_each_other_are_no_batch() -> None:
    with pytest.raises(UsageError, match="'N' is no batch: alone, a row gives another 'y'"):
        gcompile.compile(free(MIXED), dynamic={"N": "1..4"})


def test_outputs_that_grow_otherwise_need_every_size() -> None:
    with pytest.raises(UsageError, match="do not simply follow the free dimension 'L'"):
        gcompile.compile(free(TWICE), dynamic={"L": "2..4"})
    built = gcompile.compile(free(TWICE), dynamic={"L": "2,4"})
    assert built.artifact.run({"x": np.ones((1, 4, 4), "f")})["y"].shape == (1, 8, 4)


def test_free_dimensions_are_listed_where_a_name_is_wrong() -> None:
    with pytest.raises(
        UsageError,
        match=r"no free dimension 'M'. .*N \(axis 0 of x, axis 0 of mask\); L \(axis 1 of x",
    ):
        gcompile.compile(free(ATTENTION), dynamic={"M": "1..4"})
    with pytest.raises(UsageError, match="It has none: all its inputs have static shapes"):
        gcompile.compile(free(IMAGES.replace("N", "2")), dynamic={"N": "1..4"})
    with pytest.raises(UsageError, match="free dimensions: x has L"):
        gcompile.compile(free(ATTENTION), dynamic={"N": "1..4"})


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        ("8..1", "is empty"),
        ("0..4", "are no sizes"),
        ("many", "are no sizes"),
        ("1,,2", "are no sizes"),
        (list(range(1, 70)), "69 combinations of sizes are too many"),
    ],
)
def test_sizes_that_cannot_be_used_are_refused(wanted: str | list[int], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        gcompile.compile(free(IMAGES), dynamic={"N": wanted})


@pytest.mark.parametrize("option", [{"prune": True}, {"quantization": "best"}])
def test_searches_of_one_size_are_refused(option: dict[str, object]) -> None:
    calib = {"x": np.zeros((2, 3, 10, 10), np.float32)}
    with pytest.raises(UsageError, match="for static shapes"):
        gcompile.compile(free(IMAGES), dynamic={"N": "1..4"}, calib=calib, **option)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "compiled", "is_range"),
    [
        ("1..8", (1, 2, 4, 8), True),
        ("3..20", (3, 4, 8, 16, 20), True),
        ("5..5", (5,), True),
        ("32, 16", (16, 32), False),
        (range(2, 7), (2, 4, 6), True),
        ([7], (7,), False),
    ],
)
def test_a_range_is_compiled_at_powers_of_two(
    wanted: str | range | list[int], compiled: tuple[int, ...], is_range: bool
) -> None:
    assert Sizes.parse("N", wanted) == Sizes(compiled, is_range)


def test_what_a_dimension_is_follows_from_where_it_stands() -> None:
    plan = plan_ladder(free(ATTENTION), "m", None, {"L": "3..4", "N": "1..2"})
    length, rows = plan.dimensions
    assert (rows.kind, length.kind) == (Kind.ROWS, Kind.PADDED)
    assert (length.inputs, length.outputs) == ((("x", 1), ("mask", 1)), (("y", 1),))
    assert next(iter(plan.rungs.values())) == {"L": 4, "N": 1}
