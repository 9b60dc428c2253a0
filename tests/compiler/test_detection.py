"""Detectors that give as many boxes as they find, built and held against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

import gcompile
from gcompile import runtime

TRUNK = """
    h0 = Conv<pads = [1,1,1,1], strides = [2,2]>(image, w0) h1 = Relu(h0)
    h2 = Conv<pads = [1,1,1,1], strides = [2,2]>(h1, w1) h = Relu(h2)"""

SSD = f"""ssd (float[1,3,20,20] image) => (float[n,4] boxes, float[n] scores, int64[n] labels)
<float[8,3,3,3] w0, float[12,8,3,3] w1, float[8,12,3,3] wl, float[10,12,3,3] wc,
 float[1,50,4] anchors, int64[3] loc_shape = {{1,-1,4}}, int64[3] class_shape = {{1,-1,5}},
 float[1] half = {{0.5}}, float[1] tenth = {{0.1}}, float[1] fifth = {{0.2}},
 int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}}, int64[1] four = {{4}},
 int64[1] five = {{5}}, int64[1] most = {{9223372036854775807}}, float[1] overlap = {{0.45}},
 float[1] least = {{0.32}}, int64[1] flat = {{-1}}, int64 box_column = {{2}},
 int64 class_column = {{1}}, int64 first = {{0}}, int64 anchors_each = {{50}},
 int64[1] keep = {{20}}>
{{ {TRUNK}
    l0 = Conv<pads = [1,1,1,1]>(h, wl) l1 = Transpose<perm = [0,2,3,1]>(l0)
    loc = Reshape(l1, loc_shape)
    c0 = Conv<pads = [1,1,1,1]>(h, wc) c1 = Transpose<perm = [0,2,3,1]>(c0)
    c2 = Reshape(c1, class_shape) c3 = Softmax<axis = 2>(c2) c4 = Transpose<perm = [0,2,1]>(c3)
    real = Slice(c4, one, five, one)
    axy = Slice(anchors, zero, two, two) awh = Slice(anchors, two, four, two)
    lxy = Slice(loc, zero, two, two) lwh = Slice(loc, two, four, two)
    a = Mul(lxy, tenth) b = Mul(a, awh) centre = Add(axy, b)
    d = Mul(lwh, fifth) e = Exp(d) size = Mul(awh, e) reach = Mul(size, half)
    low = Sub(centre, reach) high = Add(centre, reach) all = Concat<axis = 2>(low, high)
    picked = NonMaxSuppression(all, real, most, overlap, least)
    box = Gather<axis = 1>(picked, box_column) class = Gather<axis = 1>(picked, class_column)
    rows = Squeeze(all, zero) picked_boxes = Gather(rows, box)
    start = Mul(class, anchors_each) place = Add(start, box)
    row = Reshape(real, flat) picked_scores = Gather(row, place)
    shape = Shape(picked_scores) there = Gather(shape, first) some = Unsqueeze(there, zero)
    k = Min(some, keep) scores, order = TopK<axis = 0>(picked_scores, k)
    boxes = Gather(picked_boxes, order) labels = Gather(class, order)
}}"""
"""As torchvision exports one: the best 20 of what suppression leaves, by class."""

YOLO = f"""yolo (float[1,3,20,20] image) => (float[n,7] found)
<float[8,3,3,3] w0, float[12,8,3,3] w1, float[8,12,1,1] wh, int64[3] rows = {{1,8,25}},
 int64[3] split = {{4,1,3}}, int64[1] most = {{100}}, float[1] overlap = {{0.6}},
 float[1] least = {{0.26}}, int64[1] zero = {{0}}, int64[1] three = {{3}}, int64[1] one = {{1}},
 int64[2] box_columns = {{0,2}}, int64[1] batch_column = {{0}}, int64[1] class_column = {{1}}>
{{ {TRUNK}
    o = Conv(h, wh) flat = Reshape(o, rows) r = Sigmoid(flat)
    xywh, there, classes = Split<axis = 1>(r, split)
    scores = Mul(classes, there) boxes = Transpose<perm = [0,2,1]>(xywh)
    picked = NonMaxSuppression<center_point_box = 1>(boxes, scores, most, overlap, least)
    pairs = Gather<axis = 1>(picked, box_columns) corners = GatherND(boxes, pairs)
    score = GatherND(scores, picked) column = Unsqueeze(score, one)
    batch = Gather<axis = 1>(picked, batch_column) number = Cast<to = 1>(batch)
    class = Gather<axis = 1>(picked, class_column) label = Cast<to = 1>(class)
    found = Concat<axis = 1>(number, corners, label, column)
}}"""
"""As YOLO exports with suppression inside end: rows of image, box, class and score."""


def written(text: str, folder: Path) -> Path:
    proto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}')
    rng = np.random.default_rng(0)
    for value in proto.graph.value_info:
        shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        scale = 0.3 if value.name == "anchors" else 1.5 / np.sqrt(np.prod(shape[1:]))
        array = rng.standard_normal(shape) * scale
        array = np.abs(array) + 0.1 if value.name == "anchors" else array
        proto.graph.initializer.append(
            numpy_helper.from_array(array.astype(np.float32), value.name)
        )
    del proto.graph.value_info[:]
    onnx.save(proto, folder / "model.onnx")
    return folder / "model.onnx"


def test_integers_may_find_other_boxes(tmp_path: Path) -> None:
    path = written(YOLO, tmp_path)
    rows = np.random.default_rng(0).standard_normal((4, 3, 20, 20)).astype(np.float32)
    compiled = gcompile.compile(
        path, calib={"image": rows}, precision="int8", quantization="fast", cache=False,
        output=tmp_path / "artefact",
    )  # fmt: skip
    assert compiled.report.status == "ok"
    (found,) = runtime.load(tmp_path / "artefact").run({"image": rows[:1]}).values()
    assert found.shape[1] == 7


@pytest.mark.parametrize("text", [SSD, YOLO], ids=["ssd", "yolo"])
def test_a_detector_gives_as_many_boxes_as_it_finds(text: str, tmp_path: Path) -> None:
    path = written(text, tmp_path)
    compiled = gcompile.compile(path, output=tmp_path / "artefact", cache=False)
    assert "is counted while the model runs" in " ".join(compiled.report.notes)
    runner = runtime.load(tmp_path / "artefact")
    session = onnxruntime.InferenceSession(str(path))
    names, sizes = [value.name for value in session.get_outputs()], set()
    for seed in range(12):
        x = np.random.default_rng(seed).standard_normal((1, 3, 20, 20)) * (seed % 4 / 4)
        feeds = {"image": x.astype(np.float32)}
        found = runner.run(feeds)
        assert list(found) == names
        for name, want in zip(names, session.run(None, feeds), strict=True):
            np.testing.assert_allclose(found[name], want, rtol=1e-4, atol=1e-5)
        sizes.add(len(found[names[0]]))
    assert len(sizes) > 2
