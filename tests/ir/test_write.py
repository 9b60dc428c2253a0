"""Models are written whole, wherever their weights lie."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir

from gcompile import ir

_TEXT = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[2,4] x) => (float[2,4] y) <float[4,4] w> { y = MatMul(x, w) }"""


def _with_weights_in_a_file(folder: Path) -> tuple[Path, ir.Array]:
    weights = np.arange(16, dtype=np.float32).reshape(4, 4)
    proto = onnx.parser.parse_model(_TEXT)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w"))
    path = folder / "given.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    return path, weights


def test_weights_in_a_file_are_written_inside_while_an_array_still_shows_them(
    tmp_path: Path,
) -> None:
    path, weights = _with_weights_in_a_file(tmp_path)
    model = ir.load(path)
    seen = ir.constant_array(model.graph.initializers["w"])
    ir.save(model, tmp_path / "written.onnx")
    written = onnx.load(tmp_path / "written.onnx", load_external_data=False)
    (tensor,) = written.graph.initializer
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), weights)
    np.testing.assert_array_equal(np.asarray(seen), weights)


def test_narrow_weights_beside_them_keep_their_type(tmp_path: Path) -> None:
    path, weights = _with_weights_in_a_file(tmp_path)
    model = ir.load(path)
    ir.add_constant(model.graph, "narrow", weights.astype(ml_dtypes.bfloat16))
    proto = ir.to_proto(model)
    types = {tensor.name: tensor.data_type for tensor in proto.graph.initializer}
    assert types["narrow"] == onnx_ir.DataType.BFLOAT16
