"""Resizing, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from gcompile.backends.tvm.kernels import resize
from gcompile.backends.tvm.kernels.resize import ResizeKernel, taps_along
from gcompile.backends.tvm.kernels.spec import Accumulator, Binary, Constant, Image, Output, Source
from gcompile.errors import CompileError, UnknownNameError
from tests.backends.tvm.kernels.compiling import Array, inside, run, with_halo

_COORDINATES = (
    "half_pixel",
    "half_pixel_symmetric",
    "pytorch_half_pixel",
    "align_corners",
    "asymmetric",
)


def _reference(x: Array, scales: tuple[float, float], **attributes: str) -> Array:
    """Resize (n, h, w, c) by ONNX Runtime."""
    node = onnx.helper.make_node("Resize", ["x", "", "scales"], ["y"], **attributes)
    info, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [node],
        "resize",
        [info("x", kind, [None] * 4), info("scales", kind, [4])],
        [info("y", kind, [None] * 4)],
    )
    opsets = [onnx.helper.make_opsetid("", 19)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=9)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    feeds = {"x": x.transpose(0, 3, 1, 2), "scales": np.array([1, 1, *scales], np.float32)}
    result: Array = session.run(None, feeds)[0].transpose(0, 2, 3, 1)
    return result


def _resized(
    x: Array,
    scales: tuple[float, float],
    mode: str,
    coordinates: str,
    rounding: str = "round_prefer_floor",
    dtype: str = "float32",
    threads: int = 1,
    vector_bits: int = 256,
) -> Array:
    batch, height, width, channels = x.shape
    source = Image(batch, height, width, channels, dtype, (1, 0, 0, 2), 99.0)
    out_h, out_w = (int(size * scale) for size, scale in zip((height, width), scales, strict=True))
    image = Image(batch, out_h, out_w, channels, halo=(0, 1, 2, 0), fill=5.0)
    tables = [
        taps_along(height, out_h, scales[0], mode, coordinates, rounding),
        taps_along(width, out_w, scales[1], mode, coordinates, rounding),
    ]
    kernel = ResizeKernel(
        output=Output(image),
        expression=Binary("mul", Accumulator(), Constant(2.0)),
        vector_bits=vector_bits,
        threads=threads,
        x=Source(source),
        taps=(len(tables[0].indices), len(tables[1].indices)),
    )
    inputs = [with_halo(source, x)]
    for table in tables:
        inputs += [table.indices, table.weights]
    stored = run(resize.emit(kernel, "resize"), inputs, kernel.output)
    np.testing.assert_array_equal(stored, with_halo(image, inside(image, stored)))
    halved: Array = inside(image, stored) / 2
    return halved


@pytest.mark.parametrize("coordinates", _COORDINATES)
@pytest.mark.parametrize("scales", [(2.0, 3.0), (0.6, 1.3)])
def test_linear_interpolation_is_onnx_runtime_s(
    coordinates: str, scales: tuple[float, float]
) -> None:
    x = np.random.default_rng(1).standard_normal((2, 5, 7, 19)).astype(np.float32)
    actual = _resized(x, scales, "linear", coordinates, threads=2, vector_bits=512)
    expected = _reference(x, scales, mode="linear", coordinate_transformation_mode=coordinates)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "asymmetric"])
def test_the_nearest_pixel_is_onnx_runtime_s(rounding: str, coordinates: str) -> None:
    x = np.random.default_rng(1).integers(0, 200, (1, 5, 6, 33)).astype(np.float32)
    actual = _resized(x, (2.0, 1.5), "nearest", coordinates, rounding, "uint8")
    expected = _reference(
        x,
        (2.0, 1.5),
        mode="nearest",
        coordinate_transformation_mode=coordinates,
        nearest_mode=rounding,
    )
    np.testing.assert_array_equal(actual, expected)


def test_what_cannot_be_resized_is_refused() -> None:
    kernel = ResizeKernel(
        output=Output(Image(1, 2, 2, 4)), expression=Accumulator(), x=Source(Image(1, 2, 2, 3))
    )
    with pytest.raises(CompileError, match="height and width"):
        resize.code(kernel)
    with pytest.raises(UnknownNameError, match="half_pixel"):
        taps_along(4, 8, 2.0, coordinates="tf_crop_and_resize")
    with pytest.raises(UnknownNameError, match="linear"):
        taps_along(4, 8, 2.0, mode="cubic")
    with pytest.raises(UnknownNameError, match="ceil"):
        taps_along(4, 8, 2.0, rounding="up")
