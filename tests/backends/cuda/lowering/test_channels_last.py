"""Pools and concatenations between products keep images as those read and write them."""

from __future__ import annotations

from pathlib import Path

import pytest

from gcompile import ir
from tests.backends.cuda.lowering.building import build
from tests.backends.tvm.lowering.compiling import calibration_rows, parse
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc

_PRECISIONS = ["bf16", "fp16", "int8"]


def _pooled(pool: str, channels: int, size: tuple[int, int]) -> ir.Model:
    """A pool of an image of 13 by 16 between two convolutions."""
    text = f"""
        g (float[2,8,13,16] x) => (float[2,16,{size[0]},{size[1]}] y)
        <float[{channels},8,1,1] p, float[16,{channels},1,1] q> {{
            a = Conv(x, p)
            c = Relu(a)
            d = {pool}(c)
            y = Conv(d, q)
        }}"""
    return parse(text)


_MAX, _MEAN = "MaxPool<kernel_shape = ", "AveragePool<kernel_shape = "


@pytest.mark.parametrize(
    ("precision", "pool", "channels", "size"),
    [
        ("bf16", f"{_MAX}[3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>", 48, (7, 8)),
        ("int8", f"{_MAX}[3, 2], strides = [2, 3], ceil_mode = 1>", 32, (6, 6)),
        ("fp16", f"{_MAX}[3, 3], dilations = [2, 1], pads = [0, 2, 1, 0]>", 20, (10, 16)),
        ("int8", f"{_MEAN}[3, 3], strides = [2, 2], pads = [1, 1, 1, 1]>", 12, (7, 8)),
        ("int8", f"{_MEAN}[2, 3], pads = [1, 0, 0, 2], count_include_pad = 1>", 16, (13, 16)),
        ("bf16", f"{_MEAN}[3, 3], strides = [2, 2], ceil_mode = 1>", 8, (6, 8)),
        ("fp16", "GlobalAveragePool", 40, (1, 1)),
        ("int8", "GlobalAveragePool", 64, (1, 1)),
    ],
)
def test_a_pool_between_products_is_one_launch(
    precision: str, pool: str, channels: int, size: tuple[int, int], tmp_path: Path
) -> None:
    model = _pooled(pool, channels, size)
    calib = calibration_rows(model) if precision == "int8" else None
    report, kernels = build(model, tmp_path / "out", precision, calib)
    assert report.verify.code_ran == "on-cpu"
    function = "max" if "Max" in pool else "mean"
    (place,) = (i for i, name in enumerate(kernels) if name.startswith(f"pool_{function}_"))
    # Products read units of 16 bytes: fewer channels are filled up before.
    assert not any("transpose" in name for name in kernels[place - 1 : place + 2])


@pytest.mark.parametrize("precision", _PRECISIONS)
def test_a_concatenation_between_products_is_one_launch(precision: str, tmp_path: Path) -> None:
    text = """
        g (float[2,8,5,7] x) => (float[2,16,5,7] y)
        <float[24,8,1,1] p, float[24,8,1,1] q, float[16,48,1,1] r> {
            a = Conv(x, p)
            b = Conv(x, q)
            m = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(b)
            c = Concat<axis = 1>(a, m)
            y = Conv(c, r)
        }"""
    model = parse(text)
    calib = calibration_rows(model) if precision == "int8" else None
    report, kernels = build(model, tmp_path / "out", precision, calib)
    assert report.verify.code_ran == "on-cpu"
    (place,) = (i for i, name in enumerate(kernels) if name.startswith("join_"))
    assert kernels[place - 1].startswith("pool_max_")
    assert kernels[place + 1].startswith("gemm_")


def test_a_mean_over_an_image_may_drop_its_axes(tmp_path: Path) -> None:
    text = """
        g (float[2,8,9,9] x) => (float[2,10] y)
        <float[24,8,1,1] p, float[24,10] q, int64[2] axes = {2, 3}> {
            a = Conv(x, p)
            c = Relu(a)
            d = ReduceMean<keepdims = 0>(c, axes)
            y = MatMul(d, q)
        }"""
    report, kernels = build(parse(text), tmp_path / "out", "bf16")
    assert report.verify.code_ran == "on-cpu"
    assert sum(name.startswith("pool_mean_") for name in kernels) == 1


@pytest.mark.parametrize(
    "body",
    [
        "y = MaxPool<kernel_shape = [2, 2]>(x)",
        "z = Relu(x) m = Concat<axis = 1>(x, z) y = GlobalMaxPool(m)",
        "z = Relu(x) y = Concat<axis = 2>(x, z)",
    ],
)
def test_images_with_their_channels_first_stay_so(body: str, tmp_path: Path) -> None:
    model = parse(f"g (float[1,6,5,5] x) => (float[n,c,h,w] y) {{ {body} }}")
    report, kernels = build(model, tmp_path / "out", "bf16")
    assert report.verify.code_ran == "on-cpu"
    assert not any(name.startswith(("pool_", "join_")) for name in kernels)
