"""Attention whose scores stay in the cache, beside scores in memory and beside ONNX Runtime.

    python -m benchmarks.attention [--tokens 128 512 1024 2048] [--heads 12] [--precision int8]

Queries, keys and values come as projections leave them. CPU time of one thread, medians of calls
in turn; scratch is the peak of live tensors and workspaces. Where scores in memory are priced
lower, both are the same code and the ratio is 1.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnx
import onnxruntime
from onnx import parser

import gcompile
from benchmarks.timing import interleave, machine
from gcompile import ir
from gcompile.compiler import stages
from gcompile.passes.base import Pipeline
from gcompile.passes.fuse.fuse_attention import FuseAttention

_IN_MEMORY = Pipeline(
    "algorithms", tuple(p for p in stages.ALGORITHMS.passes if not isinstance(p, FuseAttention))
)


def main() -> None:
    parser_ = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser_.add_argument("--tokens", type=int, nargs="+", default=[128, 512, 1024, 2048])
    parser_.add_argument("--heads", type=int, default=12)
    parser_.add_argument("--precision", choices=["fp32", "bf16", "int8"], default="fp32")
    parser_.add_argument("--causal", action="store_true")
    parser_.add_argument("--rounds", type=int, default=11)
    arguments = parser_.parse_args()
    print(f"{machine()}, one thread, {arguments.heads} heads of 64, {arguments.precision}")
    print("tokens  fused  in memory  ONNX Runtime   (ms)   CPU time  scratch bytes  (ratios)")
    for tokens in arguments.tokens:
        with tempfile.TemporaryDirectory() as name:
            _compare(Path(name), tokens, arguments)


def _compare(folder: Path, tokens: int, arguments: argparse.Namespace) -> None:
    path = folder / "attention.onnx"
    onnx.save(_model(tokens, arguments.heads, arguments.causal), path)
    rng = np.random.default_rng(0)
    shape = (1, tokens, 64 * arguments.heads)
    inputs = {name: rng.standard_normal(shape).astype(np.float32) for name in "qkv"}
    compiled = partial(_compiled, path, precision=arguments.precision, inputs=inputs)
    fused, peak = compiled(folder / "fused")
    with patch.object(stages, "ALGORITHMS", _IN_MEMORY):
        plain, plain_peak = compiled(folder / "memory")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    calls = {
        "fused": partial(fused.run, inputs),
        "memory": partial(plain.run, inputs),
        "peer": partial(session.run, None, inputs),
    }
    times = [samples.cpu_median_s for samples in interleave(calls, arguments.rounds).values()]
    shown = " ".join(f"{seconds * 1e3:10.2f}" for seconds in times)
    print(
        f"{tokens:6} {shown} {times[0] / times[1]:12.2f} of memory, "
        f"{times[0] / times[2]:.2f} of ONNX Runtime {peak / plain_peak:10.3f}"
    )


def _compiled(
    path: Path, folder: Path, precision: str, inputs: Mapping[str, ir.Array]
) -> tuple[gcompile.runtime.Runner, int]:
    built = gcompile.compile(
        path,
        precision=None if precision == "fp32" else precision,
        calib=inputs if precision == "int8" else None,
        output=folder,
        cache=False,
    )
    return gcompile.runtime.load(folder), built.report.peak_memory_bytes or 0


def _model(tokens: int, heads: int, causal: bool) -> onnx.ModelProto:
    width = 64 * heads
    masked = "scores = Add(scaled, ahead)" if causal else "scores = Identity(scaled)"
    given = f", float[{tokens},{tokens}] ahead" if causal else ""
    model = parser.parse_model(f"""
        <ir_version: 10, opset_import: ["" : 21]>
        g (float[1,{tokens},{width}] q, float[1,{tokens},{width}] k, float[1,{tokens},{width}] v)
            => (float[1,{tokens},{width}] y)
        <int64[4] split = {{1, {tokens}, {heads}, 64}}, int64[3] join = {{1, {tokens}, {width}}},
         float scale = {{0.125}}{given}> {{
            sq = Reshape(q, split)
            sk = Reshape(k, split)
            sv = Reshape(v, split)
            tq = Transpose<perm = [0, 2, 1, 3]>(sq)
            tk = Transpose<perm = [0, 2, 3, 1]>(sk)
            tv = Transpose<perm = [0, 2, 1, 3]>(sv)
            product = MatMul(tq, tk)
            scaled = Mul(product, scale)
            {masked}
            weights = Softmax<axis = -1>(scores)
            o = MatMul(weights, tv)
            to = Transpose<perm = [0, 2, 1, 3]>(o)
            y = Reshape(to, join)
        }}""")
    if causal:
        ahead = np.triu(np.full((tokens, tokens), -np.inf, np.float32), 1)
        model.graph.initializer.append(onnx.numpy_helper.from_array(ahead, "ahead"))
    return model


if __name__ == "__main__":
    main()
