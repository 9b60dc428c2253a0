"""ResNet-18 on this CPU, side by side with ONNX Runtime and OpenVINO.

    python -m benchmarks.resnet18_cpu [--threads 1] [--json out.json]

Batch 1, 224 by 224, seeded random weights: speed does not depend on their values. Each contender
gets its own best path: int8 for ONNX Runtime and OpenVINO is the Q/DQ model that ONNX Runtime's
quantizer writes (u8 activations, s8 weights per channel), for gcompile its own `--precision int8`.
Calls are interleaved in one process; figures are medians of CPU time per inference.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

import gcompile
from benchmarks.networks import resnet18
from benchmarks.peers.qdq import write_qdq
from benchmarks.timing import interleave, machine

SHAPE = (1, 3, 224, 224)
CALIBRATION_ROWS = 8

Image = NDArray[np.float32]
Call = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        results = compare(Path(folder), arguments.threads, arguments.rounds)
    print(f"\n{machine()}; {arguments.threads} thread(s); median CPU time per inference")
    print(f"{'':24}{'CPU ms':>9}{'wall ms':>9}{'build s':>9}")
    for name, row in results.items():
        build = f"{row['build_s']:9.1f}" if row["build_s"] else f"{'':9}"
        print(f"{name:24}{row['cpu_ms']:9.2f}{row['wall_ms']:9.2f}{build}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine(), "results": results}, indent=1))


def compare(folder: Path, threads: int, rounds: int) -> dict[str, dict[str, float]]:
    """Build every contender and time them in turn."""
    float_path, int8_path = folder / "resnet18.onnx", folder / "resnet18_qdq.onnx"
    onnx.save(resnet18(), float_path)
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((CALIBRATION_ROWS, *SHAPE[1:])).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        write_qdq(float_path, int8_path, ({"x": row[None]} for row in rows))
    image = rows[:1]

    calls: dict[str, Call] = {}
    seconds: dict[str, float] = {}
    for precision in ("fp32", "bf16", "int8"):
        start = time.perf_counter()
        built = gcompile.compile(
            float_path, calib={"x": rows}, precision=precision, threads=threads, cache=False
        )
        seconds[f"gcompile {precision}"] = time.perf_counter() - start
        calls[f"gcompile {precision}"] = built.artifact.runner.prepare({"x": image})
    calls["ONNX Runtime fp32"] = onnxruntime_call(float_path, image, threads)
    calls["ONNX Runtime int8"] = onnxruntime_call(int8_path, image, threads)
    calls.update(openvino_calls(float_path, int8_path, image, threads))
    return {
        name: {
            "cpu_ms": samples.cpu_median_s * 1e3,
            "wall_ms": samples.wall_median_s * 1e3,
            "build_s": seconds.get(name, 0.0),
        }
        for name, samples in interleave(calls, rounds).items()
    }


def onnxruntime_call(path: Path, image: Image, threads: int) -> Call:
    """One inference with ONNX Runtime, all optimizations on."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    return lambda: session.run(None, {"x": image})


def openvino_calls(
    float_path: Path, int8_path: Path, image: Image, threads: int
) -> dict[str, Call]:
    """One inference with OpenVINO in each precision it has here; empty where it is missing."""
    try:
        import openvino
    except ImportError:
        print("OpenVINO is not installed (pip install 'gcompile[bench]'): left out.")
        return {}
    core = openvino.Core()

    def call(path: Path, hint: str) -> Call:
        options = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads}
        request = core.compile_model(str(path), "CPU", options).create_infer_request()
        return lambda: request.infer({0: image})

    return {
        "OpenVINO fp32": call(float_path, "f32"),
        "OpenVINO bf16": call(float_path, "bf16"),
        "OpenVINO int8": call(int8_path, "f32"),
    }


if __name__ == "__main__":
    main()
