"""Rows scattered into tensors, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

import gcompile
from gcompile import ir
from gcompile.energy import estimate
from gcompile.energy.roofline import Roofline
from gcompile.targets import load_target
from tests.backends.tvm.lowering.compiling import parse

CACHE = """
    g (float[1,2,16,8] cache, int64[3] at, float[1,2,3,8] new) => (TYPES) <int64[4] size> {
        i = Reshape(at, shape)
        wide = Expand(i, size)
        BODY
    }"""


def cache(body: str, outputs: str = "float[1,2,16,8] y") -> ir.Model:
    text = CACHE.replace("TYPES", outputs).replace("BODY", body)
    text = text.replace("<int64[4] size>", "<int64[4] size, int64[4] shape>")
    constants = {"size": np.array([1, 2, 3, 8]), "shape": np.array([1, 1, 3, 1])}
    return parse(text, constants=constants)


WRITE = "y = ScatterElements<axis = 2>(cache, wide, new)"


def run(model: ir.Model) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    built = gcompile.compile(model)
    assert built.report.fallbacks == {}
    assert built.report.verify.max_abs_error is not None
    inputs = {
        "cache": rng.standard_normal((1, 2, 16, 8)).astype("float32"),
        "at": np.array([3, 15, -8]),
        "new": rng.standard_normal((1, 2, 3, 8)).astype("float32"),
    }
    first = built.artifact.run(inputs)
    again = built.artifact.run(inputs)
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    expected = inputs["cache"].copy()
    expected[:, :, inputs["at"]] = inputs["new"]
    return first | {"expected": expected, "cache": inputs["cache"]}


def test_a_cache_is_written_in_place_and_goes_on() -> None:
    types = "float[1,2,16,8] y, float[1,2,16,8] z"
    found = run(cache(WRITE + "\n z = Mul(y, y)", types))
    np.testing.assert_array_equal(found["y"], found["expected"])
    np.testing.assert_array_equal(found["z"], found["expected"] ** 2)


def test_a_cache_that_others_read_is_copied_before_it_is_written() -> None:
    types = "float[1,2,16,8] y, float[1,2,16,8] z"
    found = run(cache(WRITE + "\n z = Mul(cache, cache)", types))
    np.testing.assert_array_equal(found["y"], found["expected"])
    np.testing.assert_array_equal(found["z"], found["cache"] ** 2)


def test_what_is_computed_is_copied_and_written() -> None:
    body = """
        doubled = Add(cache, cache)
        y = ScatterElements<axis = 2>(doubled, wide, new)
        z = Mul(doubled, doubled)
        u = Add(y, z)"""
    types = "float[1,2,16,8] y, float[1,2,16,8] z, float[1,2,16,8] u"
    found = run(cache(body, types))
    expected = 2 * found["cache"]
    np.testing.assert_array_equal(found["z"], expected**2)
    expected[:, :, [3, 15, -8]] = found["expected"][:, :, [3, 15, -8]]
    np.testing.assert_array_equal(found["y"], expected)
    np.testing.assert_array_equal(found["u"], expected + found["z"])


def test_scatter_nd_along_the_first_axis_writes_rows() -> None:
    text = """
        g (float[9,4,5] x, int64[2,1] i, float[2,4,5] new) => (float[9,4,5] y) {
            y = ScatterND(x, i, new)
        }"""
    report = gcompile.compile(parse(text)).report
    assert report.fallbacks == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            """g (float[4,5] x, int64[2,5] i, float[2,5] new) => (float[4,5] y) {
                y = ScatterElements<axis = 0>(x, i, new)
            }""",
            "",
        ),
        (
            """g (int64[9,4] x, int64[2,1] i, int64[2,4] new) => (int64[9,4] y) {
                y = ScatterND(x, i, new)
            }""",
            "rows have type INT64",
        ),
    ],
)
def test_what_is_no_rows_of_numbers_falls_back(text: str, reason: str) -> None:
    (found,) = gcompile.compile(parse(text)).report.fallbacks.values()
    assert reason in found


def test_a_write_in_place_costs_as_much_as_its_rows() -> None:
    target = load_target("x86-64-v3")
    alone = cache(WRITE)
    beside = cache(WRITE + "\n z = Identity(cache)", "float[1,2,16,8] y, float[1,2,16,8] z")

    def moved(model: ir.Model) -> int:
        (region,) = (r for r in ir.regions(model.graph) if r.nodes[0].op_type == "ScatterElements")
        return ir.work_of(region).moved_bytes

    rows, indices, whole = 3 * 2 * 8 * 4, 3 * 2 * 8 * 8, 16 * 2 * 8 * 4
    assert moved(alone) == 2 * rows + indices
    assert moved(beside) == rows + indices + 2 * whole
    assert (
        estimate(alone, target, Roofline()).total.energy_j
        < estimate(beside, target, Roofline()).total.energy_j
    )
