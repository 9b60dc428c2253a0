"""The digits classifier, its rows, and what runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.energy import Roofline
from gcompile.passes import PassContext
from gcompile.passes.pipelines import canonicalize_pipeline, fuse_pipeline
from gcompile.passes.precision.quantize_static import QuantizeStatic
from gcompile.targets import load_target

EXAMPLES = Path(__file__).parents[2] / "examples"


def context() -> PassContext:
    with np.load(EXAMPLES / "digits_calib.npz") as rows:
        calibration = {"image": rows["image"]}
    target = load_target("intel-xeon-8490h")
    return PassContext(target, Roofline(), calibration=calibration, run=OnnxRuntime())


def digits(ctx: PassContext) -> ir.Model:
    model = ir.load(EXAMPLES / "digits_cnn.onnx")
    canonicalize_pipeline().apply(model, ctx)
    return model


def quantized_digits(ctx: PassContext) -> ir.Model:
    model = digits(ctx)
    fuse_pipeline().apply(model, ctx)
    QuantizeStatic().apply(model, ctx)
    return model


def labelled_rows() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    with np.load(EXAMPLES / "digits_eval.npz") as rows:
        return rows["image"], rows["labels"]


def outputs(model: ir.Model, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scores of every row by ONNX Runtime, one after the other."""
    run, name = OnnxRuntime(), str(model.graph.outputs[0].name)
    scores = [run(model, {"image": row[None]})[name] for row in rows]
    return np.concatenate(scores).astype(np.float32)
