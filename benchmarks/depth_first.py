"""Layers of large images computed depth first, beside image by image and beside ONNX Runtime.

    python -m benchmarks.depth_first [--precisions fp32 bf16] [NETWORK or FILE ...]

CPU time of one thread, medians of calls in turn; estimated joules, and the peak of live
tensors and workspaces. A network is a name that `benchmarks.networks.network` knows, a file an
ONNX model with static shapes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
import onnxruntime

import gcompile
from benchmarks.networks import network, save
from benchmarks.timing import interleave, machine
from gcompile import ir
from gcompile.backends.verify import seeded_inputs
from gcompile.compiler import stages
from gcompile.passes.base import Pipeline
from gcompile.passes.tile.tile_depth_first import TileDepthFirst

_IMAGE_BY_IMAGE = Pipeline(
    "algorithms", tuple(p for p in stages.ALGORITHMS.passes if not isinstance(p, TileDepthFirst))
)
_NETWORKS = ("mobilenet-v2-1.0-1024", "fsrcnn-720", "dncnn-512")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=_NETWORKS)
    parser.add_argument("--precisions", nargs="+", default=["fp32"])
    parser.add_argument("--rounds", type=int, default=9)
    arguments = parser.parse_args()
    print(f"{machine()}, one thread")
    print("network, precision: CPU ms depth first / image by image / ONNX Runtime fp32; ratios;")
    print("estimated mJ and peak MB of the first two")
    for name in arguments.networks:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(name)
            if path.suffix != ".onnx":
                path = Path(folder) / "network.onnx"
                save(network(name), path)
            for precision in arguments.precisions:
                _compare(name, path, precision, arguments)


def _compare(name: str, path: Path, precision: str, arguments: argparse.Namespace) -> None:
    inputs = seeded_inputs(ir.load(path), 1)
    chained = _compiled(path, precision, inputs)
    with patch.object(stages, "ALGORITHMS", _IMAGE_BY_IMAGE):
        whole = _compiled(path, precision, inputs)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    calls = {
        "chained": partial(gcompile.runtime.load(chained.artifact.folder).run, inputs),
        "whole": partial(gcompile.runtime.load(whole.artifact.folder).run, inputs),
        "peer": partial(session.run, None, inputs),
    }
    samples = interleave(calls, arguments.rounds)
    times = [sample.cpu_median_s for sample in samples.values()]
    shown = " / ".join(f"{seconds * 1e3:.1f}" for seconds in times)
    energies = [c.report.energy.after.energy_j for c in (chained, whole)]
    peaks = [c.report.peak_memory_bytes or 0 for c in (chained, whole)]
    print(
        f"{name}, {precision}: {shown} ms; {times[0] / times[1]:.2f} of image by image, "
        f"{times[0] / times[2]:.2f} of ONNX Runtime; "
        f"{energies[0] * 1e3:.1f} / {energies[1] * 1e3:.1f} mJ ({energies[0] / energies[1]:.2f}); "
        f"{peaks[0] / 1e6:.0f} / {peaks[1] / 1e6:.0f} MB"
    )


def _compiled(path: Path, precision: str, inputs: Mapping[str, np.ndarray]) -> gcompile.Compiled:
    """Build without a cache; rows of noise calibrate int8, whose speed does not depend on them."""
    calib = dict(inputs) if precision == "int8" else None
    return gcompile.compile(path, precision=precision, calib=calib, cache=False)


if __name__ == "__main__":
    main()
