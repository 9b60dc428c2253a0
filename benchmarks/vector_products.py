"""Products of one row with a large weight, beside reading as many bytes.

    python -m benchmarks.vector_products [--sizes 4096x4096,...] [--rounds 21]

A product of one row reads every weight once and does two operations with it, so that memory sets
its time. Each is timed in turn with a loop that only reads as much memory; the share is the
quotient of their CPU times. Weights should be larger than the last cache.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import onnx

import gcompile
from benchmarks.networks import draw_weights, single_layer
from benchmarks.peers.peak import stream_reader
from benchmarks.timing import interleave, machine

_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
_DEFAULT = "4096x4096,4096x11008,11008x4096,8192x8192"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default=_DEFAULT, help="depth x columns, separated by commas")
    parser.add_argument("--precisions", default="fp32,bf16,int8")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    print(machine())
    print(f"{'depth x columns':>16} {'':5}{'MB':>7}{'ms':>9}{'GB/s':>8}{'reading':>9}{'share':>7}")
    for size in arguments.sizes.split(","):
        depth, columns = (int(number) for number in size.split("x"))
        for precision in arguments.precisions.split(","):
            _measure(depth, columns, precision, arguments.rounds)


def _measure(depth: int, columns: int, precision: str, rounds: int) -> None:
    weight_bytes = depth * columns * _BYTES[precision]
    with tempfile.TemporaryDirectory() as folder:
        model = single_layer("gemm", 1, depth, columns)
        draw_weights(model)
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        rng = np.random.default_rng(0)
        rows = {"x": rng.standard_normal((8, depth)).astype(np.float32)}
        calib = rows if precision == "int8" else None
        built = gcompile.compile(path, precision=precision, calib=calib, threads=1, cache=False)
        product = built.artifact.runner.prepare({"x": rows["x"][:1]})
        reader = stream_reader(Path(folder), weight_bytes)
        calls = {"product": product} | ({"reading": reader} if reader else {})
        timed = {name: s.cpu_median_s for name, s in interleave(calls, rounds).items()}
    product_s, reading_s = timed["product"], timed.get("reading", 0.0)
    read_rate = f"{weight_bytes / reading_s / 1e9:9.1f}" if reading_s else f"{'unknown':>9}"
    print(
        f"{depth:>7} x {columns:>6} {precision:5}{weight_bytes / 1e6:7.1f}{product_s * 1e3:9.3f}"
        f"{weight_bytes / product_s / 1e9:8.1f}{read_rate}{reading_s / product_s:7.0%}",
        flush=True,
    )


if __name__ == "__main__":
    main()
