"""Reading models, good ones and others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir
import pytest

from gcompile import ir, testing
from gcompile.errors import InvalidModelError, UnsupportedOperatorsError, UsageError

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
DENSE = HEADER + (
    "g (float[N,8] x) => (float[N,4] y) <float[8,4] w = {"
    + ", ".join("1" for _ in range(32))
    + "}> { m = MatMul(x, w) y = Relu(m) }"
)


LARGE = HEADER + (
    "g (float[N,8] x) => (float[N,160] y) <float[8,160] w = {"
    + ", ".join("1" for _ in range(8 * 160))
    + "}> { m = MatMul(x, w) y = Relu(m) }"
)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "model.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    return path


def write_external(tmp_path: Path, text: str = LARGE) -> Path:
    path = tmp_path / "model.onnx"
    onnx_ir.save(
        onnx_ir.from_onnx_text(text), path, external_data="w.data", size_threshold_bytes=0
    )
    return path


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        ir.load(tmp_path / "no.onnx")


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_truncated_file(tmp_path: Path, keep: float) -> None:
    path = write(tmp_path, DENSE)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep > 1 else keep * len(data))])
    with pytest.raises(InvalidModelError, match="truncated"):
        ir.load(path)


def test_a_file_of_another_format(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"PK\x03\x04" + bytes(range(256)))
    with pytest.raises(InvalidModelError, match="another format"):
        ir.load(path)


def test_external_data_stays_on_disk_until_it_is_read(tmp_path: Path) -> None:
    model = ir.load(write_external(tmp_path))
    (weight,) = model.graph.initializers.values()
    assert isinstance(weight.const_value, onnx_ir.ExternalTensor)
    array = ir.constant_array(weight)
    assert array is not None
    assert array.shape == (8, 160)


def test_weights_from_another_file_are_written_into_the_model(tmp_path: Path) -> None:
    model = ir.load(write_external(tmp_path))
    (weight,) = model.graph.initializers.values()
    assert ir.to_proto(model).graph.initializer[0].raw_data
    (tmp_path / "copy").mkdir()
    ir.save(model, tmp_path / "copy" / "model.onnx")
    (tmp_path / "w.data").unlink()
    (written,) = onnx.load(tmp_path / "copy" / "model.onnx").graph.initializer
    assert onnx.numpy_helper.to_array(written).sum() == 8 * 160
    assert isinstance(weight.const_value, onnx_ir.ExternalTensor), "the model itself was changed"


def test_external_data_that_is_missing_or_short(tmp_path: Path) -> None:
    path = write_external(tmp_path)
    data = tmp_path / "w.data"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(InvalidModelError, match="missing or too short"):
        ir.load(path)
    data.unlink()
    with pytest.raises(InvalidModelError, match="missing or too short"):
        ir.load(path)


def test_small_external_weights_of_an_old_opset_are_converted(tmp_path: Path) -> None:
    old = DENSE.replace('"" : 21', '"" : 13').replace("ir_version: 10", "ir_version: 8")
    path = write_external(tmp_path, old)
    model = ir.load(path)
    (tmp_path / "w.data").unlink()
    x = np.ones((1, 8), np.float32)
    np.testing.assert_array_equal(testing.run(model, {"x": x})["y"], np.full((1, 4), 8))


def test_an_attribute_in_another_file_is_read(tmp_path: Path) -> None:
    model = ir.load(_with_external_attribute(tmp_path, "w.data"))
    np.testing.assert_array_equal(
        testing.run(model, {"x": np.ones((1, 4), np.float32)})["y"], [[1, 2, 3, 4]]
    )


@pytest.mark.parametrize("location", ["../secret.data", "/etc/hostname"])
def test_an_attribute_outside_the_folder_is_never_opened(tmp_path: Path, location: str) -> None:
    with pytest.raises(
        InvalidModelError, match=r"'constant.value' points outside the model's folder"
    ):
        ir.load(_with_external_attribute(tmp_path, location))


def _with_external_attribute(tmp_path: Path, location: str) -> Path:
    (tmp_path / "w.data").write_bytes(np.arange(1, 5, dtype=np.float32).tobytes())
    text = HEADER + "g (float[1,4] x) => (float[1,4] y) { c = Constant() y = Mul(x, c) }"
    proto = onnx.parser.parse_model(text)
    tensor = onnx.TensorProto(
        data_type=onnx.TensorProto.FLOAT, dims=[1, 4], data_location=onnx.TensorProto.EXTERNAL
    )
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        tensor.external_data.add(key=key, value=value)
    proto.graph.node[0].attribute.append(onnx.helper.make_attribute("value", tensor))
    proto.graph.node[0].name = "constant"
    path = tmp_path / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


@pytest.mark.parametrize("location", ["../secret.data", "/etc/hostname"])
def test_external_data_outside_the_folder_is_never_opened(tmp_path: Path, location: str) -> None:
    path = write_external(tmp_path)
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == "location":
            entry.value = location
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(InvalidModelError, match="outside the model's folder"):
        ir.load(path)


def test_the_batch_is_one_sample_unless_it_is_bound(tmp_path: Path) -> None:
    path = write(tmp_path, DENSE)
    assert ir.static_shape(ir.load(path).graph.outputs[0]) == (1, 4)
    assert ir.static_shape(ir.load(path, {"x": (5, 8)}).graph.outputs[0]) == (5, 4)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"z": (1, 8)}, "names an input the model does not have: z. Its inputs are: x"),
        ({"x": (1, 8, 1)}, "has 3 dimensions, but the model's input has 2"),
        ({"x": (1, 9)}, "sets dimension 1 to 9, but it is 8"),
        ({"x": (0, 8)}, "must be positive"),
    ],
)
def test_a_wrong_shape(tmp_path: Path, shapes: ir.Shapes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ir.load(write(tmp_path, DENSE), shapes)


def test_free_dimensions_that_are_not_the_batch_have_to_be_bound() -> None:
    text = HEADER + "g (float[N,T] x) => (float[N,T] y) { y = Relu(x) }"
    with pytest.raises(UsageError, match=r"x has T. Bind them with --shape x=1,T"):
        ir.parse(text)
    assert ir.static_shape(ir.parse(text, {"x": (2, 3)}).graph.outputs[0]) == (2, 3)


def test_shapes_that_contradict_each_other() -> None:
    text = HEADER + "g (float[2,3] x, float[4,5] w) => (float[2,5] y) { y = MatMul(x, w) }"
    with pytest.raises(InvalidModelError, match="contradict each other"):
        ir.parse(text)


def test_nodes_without_a_name_are_called_after_what_they_make() -> None:
    model = ir.parse(HEADER + "g (float[3] x) => (float[3] y) { a = Neg(x) y = Relu(a) }")
    assert [node.name for node in model.graph] == ["Neg_a", "Relu_y"]


def test_names_are_unique_over_all_branches() -> None:
    model = ir.parse(
        HEADER
        + """g (bool p, float[3] x) => (float[3] y) {
            y = If(p) <
                then_branch = a () => (float[3] o) { o = Neg(x) },
                else_branch = b () => (float[3] o) { o = Neg(x) }
            >
        }"""
    )
    names = [node.name for node in ir.all_nodes(model)]
    assert len(set(names)) == len(names) == 3


def test_weights_listed_as_inputs_are_constants() -> None:
    proto = onnx.parser.parse_model(DENSE.replace("[N,", "[1,"))
    weight = proto.graph.initializer[0]
    proto.graph.input.append(
        onnx.helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
    )
    model = ir.prepare(onnx_ir.from_proto(proto))
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert ir.is_constant(model.graph[0].inputs[1])


def test_old_opsets_are_converted_and_compute_the_same() -> None:
    text = """<ir_version: 3, opset_import: ["" : 7]>
        g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2] scale = {1, 2}, float[2] bias = {0, 1}, float[2] mean = {0, 0},
         float[2] var = {1, 4}> {
            d = Dropout<ratio = 0.5>(x)
            n = BatchNormalization(d, scale, bias, mean, var)
            c = Upsample<scales = [1.0, 1.0, 1.0, 1.0], mode = "nearest">(n)
            y = Relu(c)
        }"""
    model = ir.parse(text)
    assert model.graph.opset_imports[""] == ir.OPSET
    x = np.ones((1, 2, 4, 4), np.float32)
    result = testing.run(model, {"x": x})["y"]
    np.testing.assert_allclose(np.asarray(result, np.float32)[0, :, 0, 0], [1.0, 2.0], rtol=1e-5)


def test_large_weights_survive_the_conversion_of_opsets() -> None:
    numbers = ", ".join(str(i % 7) for i in range(2048))
    model = ir.parse(
        f"""<ir_version: 3, opset_import: ["" : 11]>
        g (float[1,64] x) => (float[1,32] y) <float[64,32] w = {{{numbers}}}> {{
            y = MatMul(x, w)
        }}"""
    )
    array = ir.constant_array(model.graph[0].inputs[1])
    assert array is not None
    assert array.reshape(-1)[:8].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert [value.name for value in model.graph.inputs] == ["x"]


def test_operators_that_do_not_exist_are_all_named() -> None:
    text = HEADER + "g (float[3] x) => (float[3] y) { a = Affine(x) b = Crop(a) y = Crop(b) }"
    with pytest.raises(UnsupportedOperatorsError) as caught:
        ir.parse(text)
    assert sorted(caught.value.nodes_by_operator) == ["Affine", "Crop"]
    assert len(caught.value.nodes_by_operator["Crop"]) == 2


def test_a_model_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    model = ir.parse(HEADER + "g (float[3] x) => (float[3] y) { y = Relu(x) }")
    ir.assign_region(model.graph[0], "r")
    ir.save(model, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    again = ir.load(path)
    assert [region.name for region in ir.regions(again.graph)] == ["r"]
    assert onnx.load(path).ir_version == 10


def test_constants_of_strings_are_read_from_older_opsets() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
    model = onnx_ir.from_onnx_text(text)
    words = onnx_ir.StringTensor([b"a", b"b"], shape=onnx_ir.Shape([2]), name="words")
    value = onnx_ir.Value(name="words", const_value=words)
    model.graph.register_initializer(value)
    assert [node.op_type for node in ir.prepare(model).graph] == ["Neg"]
