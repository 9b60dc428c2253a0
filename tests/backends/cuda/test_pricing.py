"""Regions are priced as the launches that the lowering makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks.cuda_static import optimized
from benchmarks.networks import GraphWriter, draw_weights
from benchmarks.networks.transformers import bert
from gcompile import ir
from gcompile.backends.cuda.kernels.tile_cost import share_inside
from gcompile.backends.cuda.launches import Launch
from gcompile.backends.cuda.ledger import emitted
from gcompile.backends.cuda.lowering.model import lower_model
from gcompile.backends.cuda.pricing import CudaEmission
from gcompile.compiler.pricing import energy_for
from gcompile.energy import Roofline, estimate
from gcompile.energy.job import Job, job_of
from gcompile.ir import Contraction, Precision
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.targets import load_target
from tests.backends.cuda.test_static import as_model
from tests.runtime.cuda.conftest import needs_nvrtc

H100 = load_target("nvidia-h100-sxm")


def _job(c: Contraction, precision: Precision) -> Job:
    size = precision.bits // 8
    return Job(
        precision=precision,
        contraction=c,
        product_ops=2 * c.m * c.n * c.k,
        vector_ops=0,
        image_bytes=c.m * c.k * size,
        activation_bytes=(c.m * c.n * size,),
        constant_bytes=4 * c.n,
    )


def test_a_product_of_great_depth_is_two_launches() -> None:
    job = _job(Contraction.matmul(49, 4608, 512), Precision.BF16)
    first, second = CudaEmission().launches(job, H100)
    assert first.unit == "tensor-core-bf16"
    assert first.job.product_ops >= job.product_ops
    assert second.job.product_ops == 0
    assert first.job.activation_bytes[0] == second.job.activation_bytes[0]
    assert job.weight_bytes in (first.job.constant_bytes, first.job.constant_bytes - 2048)


def test_a_product_with_enough_blocks_is_one_launch() -> None:
    (only,) = CudaEmission().launches(
        _job(Contraction.matmul(4096, 64, 512), Precision.INT8), H100
    )
    assert only.unit == "tensor-core-int8"
    assert only.issued.shared_bytes is not None


def test_products_that_tensor_cores_would_round_are_priced_as_any(tmp_path: Path) -> None:
    assert (
        CudaEmission().launches(_job(Contraction.matmul(64, 64, 64), Precision.FP32), H100) == ()
    )


def test_other_targets_are_priced_without_a_code_generator() -> None:
    assert energy_for(load_target("raspberry-pi-4b")) == Roofline()
    assert energy_for(H100).emission == CudaEmission()


def test_what_lies_past_an_edge_is_not_read() -> None:
    """Of a 3×3 window on a 2×2 image with a border, 2 of 3 rows and columns are inside."""
    c = Contraction(
        batch=1, out_h=2, out_w=2, out_c=8, in_h=2, in_w=2, in_c=8, kernel_h=3, kernel_w=3,
        pad_top=1, pad_left=1, pad_bottom=1, pad_right=1,
    )  # fmt: skip
    assert share_inside(c) == pytest.approx((2 / 3) ** 2)
    assert share_inside(Contraction.matmul(5, 6, 7)) == 1.0


def _residual_blocks() -> onnx.ModelProto:
    """Four blocks of ResNet-50's third stage, with windows and depths that are split."""
    net, y = GraphWriter(), "x"
    for _ in range(4):
        inner = net.add("Relu", net.conv(y, (512, 128), 1, bias=True))
        inner = net.add("Relu", net.conv(inner, (128, 128), 3, bias=True))
        inner = net.conv(inner, (128, 512), 1, bias=True)
        y = net.add("Relu", net.add("Add", y, inner))
    return as_model(net, (1, 512, 14, 14), y, (1, 512, 14, 14))


@pytest.mark.parametrize(
    ("operator", "gates", "directions"), [("GRU", 3, 1), ("LSTM", 4, 2), ("RNN", 1, 1)]
)
def test_the_steps_of_a_recurrent_net_have_a_block_for_each_sequence(
    operator: str, gates: int, directions: int
) -> None:
    steps, depth, hidden = 40, 24, 64
    way = "bidirectional" if directions == 2 else "forward"
    rows = gates * hidden
    model = ir.parse(
        f"""<ir_version: 10, opset_import: ["": 21]>
        g (float[{steps},1,{depth}] x, float[{directions},{rows},{depth}] w,
           float[{directions},{rows},{hidden}] r)
          => (float[{steps},{directions},1,{hidden}] y)
        {{ y = {operator}<hidden_size = {hidden}, direction = "{way}">(x, w, r) }}"""
    )
    rng = np.random.default_rng(0)
    for value in list(model.graph.inputs)[1:]:
        array = rng.standard_normal(ir.static_shape(value)).astype(np.float32) / 8
        value.const_value = ir.tensor(array, name=str(value.name))
        model.graph.register_initializer(value)
        model.graph.inputs.remove(value)
    exact = PassContext(H100, energy_for(H100))
    canonicalize_pipeline().apply(model, exact)
    fuse_pipeline().apply(model, exact)
    (region,) = (r for r in ir.regions(model.graph) if ir.recurrence_of(r.nodes[0]))
    job = job_of(region)
    assert job is not None
    _, stepping = CudaEmission().launches(job, H100)
    assert stepping.issued.busy == pytest.approx(directions / H100.processors)
    priced = estimate(model, H100, energy_for(H100)).total
    found = emitted(lower_model(model, H100, 90).program, H100).cost
    assert found.time_s == pytest.approx(priced.time_s, rel=0.25)


@needs_nvrtc
@pytest.mark.parametrize("precision", ["bf16", "int8"])
@pytest.mark.parametrize("name", ["convolutions", "transformer"])
def test_estimate_and_ledger_agree(name: str, precision: str, tmp_path: Path) -> None:
    """Within 10 %: the rest are changes of layout that regions do not have."""
    model = _residual_blocks() if name == "convolutions" else bert(2, 256, 64)
    draw_weights(model)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    job, stage = optimized(path, H100.name, precision)
    priced = estimate(stage.model, H100, job.context.energy).total
    program = lower_model(stage.model, H100, 90).program
    found = emitted(program, H100).cost
    assert found.energy_j == pytest.approx(priced.energy_j, rel=0.1)
    assert found.time_s == pytest.approx(priced.time_s, rel=0.1)


@needs_nvrtc
def test_a_table_is_paid_for_by_the_rows_that_are_taken(tmp_path: Path) -> None:
    model = bert(1, 128, 16)
    draw_weights(model)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    _, stage = optimized(path, H100.name, "bf16")
    launches = [
        a for a in lower_model(stage.model, H100, 90).program.actions if isinstance(a, Launch)
    ]
    taking = next(a.kernel for a in launches if a.kernel.name.startswith("take"))
    shares = [argument.share for argument in taking.arguments]
    assert min(shares) < 0.01
    assert taking.arguments[0].share == 1.0  # What is written.
