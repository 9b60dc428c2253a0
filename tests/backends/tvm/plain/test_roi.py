"""Regions of images and deformed windows against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import parser

from gcompile.backends.onnx_backend import GcompileBackend


@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
@pytest.mark.parametrize("transformation", ["half_pixel", "output_half_pixel"])
def test_regions_are_resampled(mode: str, ratio: int, transformation: str) -> None:
    proto = parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 16]>
        g (float[2,3,9,11] x, float[5,4] r, int64[5] b) => (float[5,3,4,3] y) {{
        y = RoiAlign<mode = "{mode}", sampling_ratio = {ratio}, output_height = 4,
            output_width = 3, spatial_scale = 0.5,
            coordinate_transformation_mode = "{transformation}">(x, r, b) }}""")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 9, 11)).astype(np.float32)
    corners = np.sort(rng.random((5, 2, 2)) * 24 - 2, axis=1).astype(np.float32)
    feeds = {"x": x, "r": corners.reshape(5, 4), "b": rng.integers(0, 2, 5)}
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (found,) = GcompileBackend.run_model(proto, list(feeds.values()))
    np.testing.assert_allclose(found, session.run(None, feeds)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("group", "offset_group", "has_mask"), [(1, 1, True), (2, 2, False)])
def test_windows_are_deformed(group: int, offset_group: int, has_mask: bool) -> None:
    mask = "m" if has_mask else ""
    proto = parser.parse_model(f"""<ir_version: 10, opset_import: ["" : 19]>
        g (float[2,4,7,9] x, float[6,{4 // group},3,2] w, float[2,{12 * offset_group},4,4] o,
           float[6] b, float[2,{6 * offset_group},4,4] m) => (float[2,6,4,4] y) {{
        y = DeformConv<strides = [2, 2], pads = [1, 0, 1, 0], dilations = [1, 2],
            group = {group}, offset_group = {offset_group}>(x, w, o, b, {mask}) }}""")
    rng = np.random.default_rng(0)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
              for v in proto.graph.input}  # fmt: skip
    feeds = {n: rng.standard_normal(shape).astype(np.float32) for n, shape in shapes.items()}
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (found,) = GcompileBackend.run_model(proto, list(feeds.values()))
    np.testing.assert_allclose(found, session.run(None, feeds)[0], rtol=1e-4, atol=1e-4)
