"""No index reads outside a tensor, whatever a caller sends."""

from __future__ import annotations

import numpy as np
import pytest

import gcompile
from gcompile import ir

GATHER = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[4,3] table, int64[5] rows) => (float[5,3] y) { y = Gather<axis=0>(table, rows) }"""
GATHER_ELEMENTS = """
    <ir_version: 10, opset_import: ["" : 21]>
    g (float[4,3] table, int64[5,3] rows) => (float[5,3] y) {
        y = GatherElements<axis=0>(table, rows)
    }"""
TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("text", [GATHER, GATHER_ELEMENTS], ids=["Gather", "GatherElements"])
def test_indices_inside_the_table_read_what_they_name(text: str) -> None:
    rows = np.array([0, 3, -1, 2, -4])
    np.testing.assert_array_equal(_looked_up(text, rows), TABLE[rows])


@pytest.mark.parametrize("text", [GATHER, GATHER_ELEMENTS], ids=["Gather", "GatherElements"])
def test_indices_outside_the_table_read_the_nearest_row(text: str) -> None:
    found = _looked_up(text, np.array([4, 1 << 40, -5, -(1 << 40), 1]))
    np.testing.assert_array_equal(found, TABLE[[3, 3, 0, 0, 1]])


def _looked_up(text: str, rows: np.ndarray) -> np.ndarray:
    compiled = gcompile.compile(ir.parse(text))
    shape = next(s.shape for s in compiled.artifact.runner.inputs if s.name == "rows")
    places = np.broadcast_to(rows.reshape(5, *[1] * (len(shape) - 1)), shape)
    return compiled.artifact.run({"table": TABLE, "rows": places.astype(np.int64)})["y"]
