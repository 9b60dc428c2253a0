"""Regions that kernels of ours compute on a GPU, built and verified by their CPU forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gcompile import ir
from tests.backends.cuda.lowering.building import build
from tests.backends.tvm.lowering.compiling import calibration_rows, parse
from tests.ir.weight_only import weight_only
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc


def _depthwise(channels: int, size: int, stride: int) -> ir.Model:
    out = (size - 1) // stride + 1
    text = f"""
        g (float[1,{channels},{size},{size}] x) => (float[1,{channels},{out},{out}] y)
        <float[{channels},{channels},1,1] p, float[{channels},1,3,3] w, float[{channels}] b> {{
            a = Conv(x, p)
            c = Relu(a)
            d = Conv<group = {channels}, kernel_shape = [3, 3], pads = [1, 1, 1, 1],
                     strides = [{stride}, {stride}]>(c, w, b)
            y = Clip(d)
        }}"""
    return parse(text)


@pytest.mark.parametrize("precision", ["bf16", "fp16", "int8"])
@pytest.mark.parametrize(("channels", "size", "stride"), [(24, 9, 1), (36, 80, 2)])
def test_depthwise_convolutions_follow_products_with_their_channels_last(
    precision: str, channels: int, size: int, stride: int, tmp_path: Path
) -> None:
    model = _depthwise(channels, size, stride)
    calib = calibration_rows(model) if precision == "int8" else None
    report, kernels = build(model, tmp_path / "out", precision, calib)
    assert report.verify.code_ran == "on-cpu"
    assert report.fallbacks == {}
    assert any(name.startswith("depthwise_") for name in kernels)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_depthwise_convolutions_run_on_the_oldest_architecture(
    precision: str, tmp_path: Path
) -> None:
    model = _depthwise(24, 9, 1)
    calib = calibration_rows(model) if precision == "int8" else None
    report, kernels = build(model, tmp_path / "out", precision, calib, "nvidia-t4")
    assert report.verify.code_ran == "on-cpu"
    assert any(name.startswith("depthwise_") for name in kernels)


@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize(
    ("groups", "inputs", "outputs"),
    [(2, 64, 64), (8, 32, 64), (3, 12, 12), (4, 32, 20)],
)
def test_groups_are_products_of_their_own_or_joined_where_they_are_narrow(
    precision: str, groups: int, inputs: int, outputs: int, tmp_path: Path
) -> None:
    text = f"""
        g (float[2,{inputs},7,9] x) => (float[2,{outputs},4,5] y)
        <float[{inputs},{inputs},1,1] p, float[{outputs},{inputs // groups},3,3] w,
         float[{outputs}] b> {{
            a = Conv(x, p)
            c = Relu(a)
            d = Conv<group = {groups}, kernel_shape = [3, 3], pads = [1, 1, 1, 1],
                     strides = [2, 2]>(c, w, b)
            y = Clip(d)
        }}"""
    model = parse(text)
    calib = calibration_rows(model) if precision == "int8" else None
    report, kernels = build(model, tmp_path / "out", precision, calib)
    assert report.verify.code_ran == "on-cpu"
    assert report.fallbacks == {}
    assert sum(name.startswith("conv_") for name in kernels) == 1


@pytest.mark.parametrize(
    ("sizes", "dtype", "block", "options"),
    [
        ((1, 64, 40), "int4", 32, {}),
        ((3, 101, 33), "uint4", 32, {"zero_points": True}),
        ((9, 600, 48), "int8", 64, {"zero_points": True}),
        ((70, 1024, 40), "int8", 64, {}),
    ],
)
def test_stored_integers_are_decoded_in_the_kernel(
    sizes: tuple[int, int, int], dtype: str, block: int, options: dict[str, bool], tmp_path: Path
) -> None:
    report, kernels = build(weight_only(sizes, dtype, block, **options), tmp_path / "out", "bf16")
    assert report.verify.code_ran == "on-cpu"
    assert report.fallbacks == {}
    assert any(name.startswith("stored") for name in kernels)


def test_blocks_too_short_for_the_kernel_are_decoded_elsewhere(tmp_path: Path) -> None:
    report, kernels = build(weight_only((1, 64, 40), "int4", 8), tmp_path / "out", "bf16")
    assert not any(name.startswith("stored") for name in kernels)
    assert "multiples of 32" in " ".join(report.fallbacks.values())


def test_one_row_of_a_matrix_product_runs_on_tensor_cores(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    text = """
        g (float[1,96] x) => (float[1,40] y) <float[96,40] w> {
            y = MatMul(x, w)
        }"""
    model = parse(text, constants={"w": rng.standard_normal((96, 40)).astype(np.float32)})
    _, kernels = build(model, tmp_path / "out", "bf16")
    assert any(name.startswith("gemm_bf16_") for name in kernels)
