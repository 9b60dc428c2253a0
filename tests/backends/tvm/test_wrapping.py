"""Indices that wrap around are compiled without LLVM's loop vectorizer."""

from __future__ import annotations

import numpy as np
import onnx_ir
from tvm import te, tirx
from tvm.target import Target

from gcompile import ir
from gcompile.backends.onnx_backend import GcompileBackend
from gcompile.backends.tvm.wrapping import EMITTED_ATTRIBUTE, compiling_target

TARGET = Target({"kind": "llvm", "mcpu": "znver4"})


def reading(index: str) -> tirx.PrimFunc:
    x = te.placeholder((4,), "float32", name="x")
    y = te.compute((16,), lambda i: x[i % 4] if index == "wrapped" else x[i // 4])
    return te.create_prim_func([x, y])


def test_only_what_wraps_around_is_compiled_with_care() -> None:
    wrapped = reading("wrapped")
    assert compiling_target(reading("plain"), TARGET) is TARGET
    assert compiling_target(wrapped.with_attr(EMITTED_ATTRIBUTE, True), TARGET) is TARGET
    careful = compiling_target(wrapped, TARGET)
    assert careful.attrs["opt-level"] == 1
    assert careful.attrs["mcpu"] == "znver4"


def test_a_tile_of_many_parts_is_right() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21]>
        g (float[2,3,4,5] x) => (float[14,18,16,10] y) <int64[4] r = {7, 6, 4, 2}>
        { y = Tile(x, r) }"""
    x = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    proto = onnx_ir.to_proto(ir.parse(text))
    (found,) = GcompileBackend.run_model(proto, [x])
    np.testing.assert_array_equal(found, np.tile(x, (7, 6, 4, 2)))
