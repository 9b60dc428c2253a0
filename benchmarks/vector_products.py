"""Products of a few rows with a large weight, beside reading as many bytes.

    python -m benchmarks.vector_products [--sizes 4096x4096,...] [--rows 1,4] [--threads 1]

A product of few rows reads every weight once and does few operations with it, so that memory sets
its time. Each is timed in turn with a loop that only reads as much memory; the share is the
quotient of their times: CPU time of one thread, wall time of several. Weights should be larger
than the last cache.
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
from benchmarks.timing import Samples, interleave, machine

_BYTES = {"fp32": 4, "bf16": 2, "int8": 1}
_DEFAULT = "4096x4096,4096x11008,11008x4096,8192x8192"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default=_DEFAULT, help="depth x columns, separated by commas")
    parser.add_argument("--rows", default="1,4", help="separated by commas")
    parser.add_argument("--precisions", default="fp32,bf16,int8")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args()
    print(f"{machine()}, threads used: {arguments.threads}")
    print(
        f"{'depth x columns':>16} {'rows':>4} {'':5}{'MB':>7}{'ms':>9}{'GB/s':>8}{'reading':>9}"
        f"{'share':>7}"
    )
    for size in arguments.sizes.split(","):
        depth, columns = (int(number) for number in size.split("x"))
        for precision in arguments.precisions.split(","):
            for rows in arguments.rows.split(","):
                _measure((int(rows), depth, columns), precision, arguments)


def _measure(sizes: tuple[int, int, int], precision: str, arguments: argparse.Namespace) -> None:
    rows, depth, columns = sizes
    weight_bytes = depth * columns * _BYTES[precision]
    with tempfile.TemporaryDirectory() as folder:
        model = single_layer("gemm", *sizes)
        draw_weights(model)
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        rng = np.random.default_rng(0)
        x = rng.standard_normal((8 * rows, depth)).astype(np.float32)
        calib = {"x": x} if precision == "int8" else None
        built = gcompile.compile(
            path, precision=precision, calib=calib, threads=arguments.threads, cache=False
        )
        product = built.artifact.runner.prepare({"x": x[:rows]})
        reader = stream_reader(Path(folder), weight_bytes, arguments.threads)
        calls = {"product": product} | ({"reading": reader} if reader else {})
        timed = interleave(calls, arguments.rounds)
    seconds = {name: _seconds(samples, arguments.threads) for name, samples in timed.items()}
    product_s, reading_s = seconds["product"], seconds.get("reading", 0.0)
    read_rate = f"{weight_bytes / reading_s / 1e9:9.1f}" if reading_s else f"{'unknown':>9}"
    print(
        f"{depth:>7} x {columns:>6} {rows:>4} {precision:5}{weight_bytes / 1e6:7.1f}"
        f"{product_s * 1e3:9.3f}{weight_bytes / product_s / 1e9:8.1f}{read_rate}"
        f"{reading_s / product_s:7.0%}",
        flush=True,
    )


def _seconds(samples: Samples, threads: int) -> float:
    """Threads that wait for others use CPU time too."""
    return samples.cpu_median_s if threads == 1 else samples.wall_median_s


if __name__ == "__main__":
    main()
