"""Every kind of region, in every precision, gives what ONNX Runtime gives, by our kernels."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from gcompile.backends.tvm.kernels.packing import panel_of
from gcompile.backends.tvm.kernels.spec import Panel, ProductKernel
from gcompile.backends.tvm.lowering import products
from gcompile.targets import load_target
from tests.backends.tvm.lowering.compiling import check
from tests.backends.tvm.lowering.models import CONVOLUTIONS, MODELS

PRECISIONS = [None, "int8", "bf16", "fp16"]
has_a_product = re.compile("Conv|Gemm|MatMul").search


@pytest.mark.parametrize("name", MODELS)
def test_our_kernels_take_the_whole_model(name: str) -> None:
    assert check(MODELS[name]).report.fallbacks == {}


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp16"])
@pytest.mark.parametrize("name", [name for name in MODELS if has_a_product(MODELS[name])])
def test_our_kernels_take_the_whole_model_when_it_is_narrow(name: str, precision: str) -> None:
    assert check(MODELS[name], precision).report.fallbacks == {}


@pytest.mark.parametrize("precision", ["int8", "bf16", "fp16"])
def test_a_narrow_precision_is_used_where_it_was_asked_for(precision: str) -> None:
    layers = check(CONVOLUTIONS["a residual"], precision).report.layers
    assert [layer.precision for layer in layers if "Conv" in layer.op] == [precision] * 2


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("target", ["generic-x86-avx2", "generic-x86-avx512"])
def test_older_machines_get_the_same_numbers(target: str, precision: str | None) -> None:
    text = CONVOLUTIONS["channels beyond four are padded in memory"]
    assert check(text, precision, target=target).report.fallbacks == {}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_two_threads_share_the_work(precision: str | None) -> None:
    text = """
        g (float[1,16,64,64] x) => (float[1,32,64,64] y, float[1,32] z) <float[32,16,3,3] w> {
            y = Conv<pads = [1,1,1,1]>(x, w)
            p = GlobalAveragePool(y)
            z = Flatten(p)
        }"""
    built = check(text, precision, threads=2)
    assert built.report.fallbacks == {}
    assert built.report.threads == 2


def test_large_products_go_panel_by_panel(monkeypatch: pytest.MonkeyPatch) -> None:
    panels = []

    def recorded(kernel: ProductKernel, cache_bytes: int) -> Panel | None:
        panels.append(panel_of(kernel, cache_bytes))
        return panels[-1]

    monkeypatch.setattr(products, "panel_of", recorded)
    target = load_target("generic-x86-avx2")
    small = [replace(memory, size_bytes=2**13) for memory in target.memories]
    text = "g (float[40,600] x) => (float[40,600] y) <float[600,600] w> { y = MatMul(x, w) }"
    assert check(text, target=replace(target, memories=tuple(small))).report.fallbacks == {}
    assert panels != [None]


@pytest.mark.parametrize("numbers", [1, 2, 3, 4, 5, 8, 9])
def test_images_of_any_number_of_channels(numbers: int) -> None:
    text = f"""
        g (float[1,{numbers},5,5] x) => (float[1,10,5,5] y)
        <float[{numbers},{numbers},3,3] w, float[10,{numbers},3,3] v> {{
            c = Conv<pads = [1,1,1,1]>(x, w)
            r = Relu(c)
            y = Conv<pads = [1,1,1,1]>(r, v)
        }}"""
    assert check(text, "int8").report.fallbacks == {}
