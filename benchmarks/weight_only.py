"""Weights of four and eight bits: what accuracy they cost, and what time they save.

    python -m benchmarks.weight_only --data DIR [--sizes 4096x4096] [--rows 1,4,64] [--rounds 15]

DIR holds NAME.onnx, NAME.calib.npz and NAME.eval.npz with inputs and labels: each model that has a
product with a constant matrix is compiled as it is and with `quantize-weights`, and the compiled
code runs on all rows. Then products of few rows are timed in turn with a loop that reads as many
bytes as their weights and scales take; the share is the quotient of their CPU times.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

import gcompile
from benchmarks.networks import draw_weights, single_layer
from benchmarks.peers.peak import stream_reader
from benchmarks.timing import interleave, machine
from gcompile.search.metrics import top1

FORMS = {
    "fp32": "canonicalize",
    "int8/128": "canonicalize,quantize-weights{bits=8,block=128}",
    "int4/32": "canonicalize,quantize-weights{bits=4,block=32}",
    "int4/32 gram": "canonicalize,quantize-weights{bits=4,block=32,rounding=gram}",
    "int4/64": "canonicalize,quantize-weights{bits=4,block=64}",
    "int4/128": "canonicalize,quantize-weights{bits=4,block=128}",
}
"""Pipelines by the name of what they store."""

_TIMED = ("fp32", "bf16", "int8/128", "int4/128", "int4/32")
_SCALE_BYTES = 2

Arrays = Mapping[str, NDArray[np.generic]]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--sizes", default="4096x4096", help="depth x columns, by commas")
    parser.add_argument("--rows", default="1,4,64", help="separated by commas")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    print(machine())
    if arguments.data is not None:
        _measure_accuracy(arguments.data)
    print(f"{'depth x columns':>16} {'rows':>4} {'':9}{'MB':>7}{'ms':>9}{'GB/s':>8}{'share':>7}")
    for size in arguments.sizes.split(","):
        depth, columns = (int(number) for number in size.split("x"))
        for rows in arguments.rows.split(","):
            _measure_time((int(rows), depth, columns), arguments.rounds)


def _measure_accuracy(data: Path) -> None:
    print(f"{'':18}" + "".join(f"{name:>13}" for name in FORMS) + "   % of labels right")
    for path in sorted(data.glob("*.onnx")):
        rows, calib = path.with_suffix(".eval.npz"), path.with_suffix(".calib.npz")
        if not rows.is_file() or not calib.is_file() or not _has_a_matrix(path):
            continue
        arrays = dict(np.load(rows))
        labels = arrays.pop("labels", None)
        if labels is None:
            continue
        found = [_accuracy(path, passes, calib, arrays, labels) for passes in FORMS.values()]
        print(f"{path.stem:18}" + "".join(f"{100 * share:13.2f}" for share in found), flush=True)


def _has_a_matrix(path: Path) -> bool:
    operators = {node.op_type for node in onnx.load(path).graph.node}
    return bool(operators & {"MatMul", "Gemm"})


def _accuracy(
    path: Path, passes: str, calib: Path, rows: Arrays, labels: NDArray[np.generic]
) -> float:
    given = {name: a for name, a in np.load(calib).items() if name != "labels"}
    built = gcompile.compile(path, passes=passes, calib=given, cache=False)
    outputs = [built.artifact.run(one) for one in _each(rows)]
    name = next(iter(outputs[0]))
    return top1({name: np.concatenate([np.atleast_2d(out[name]) for out in outputs])}, labels)


def _each(rows: Arrays) -> Iterator[dict[str, NDArray[np.generic]]]:
    for index in range(len(next(iter(rows.values())))):
        yield {name: array[index : index + 1] for name, array in rows.items()}


def _measure_time(sizes: tuple[int, int, int], rounds: int) -> None:
    rows, depth, columns = sizes
    with tempfile.TemporaryDirectory() as folder:
        model = single_layer("gemm", *sizes)
        draw_weights(model)
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        x = np.random.default_rng(0).standard_normal((rows, depth)).astype(np.float32)
        calls, stored = {}, {name: _stored_bytes(name, depth, columns) for name in _TIMED}
        for name in _TIMED:
            passes, precision = FORMS.get(name), "bf16" if name == "bf16" else None
            built = gcompile.compile(
                path, passes=passes, precision=precision, threads=1, cache=False
            )
            calls[name] = built.artifact.runner.prepare({"x": x})
            if reader := stream_reader(Path(folder), stored[name]):
                calls[f"{name} read"] = reader
        timed = interleave(calls, rounds)
    for name in _TIMED:
        seconds = timed[name].cpu_median_s
        read = timed.get(f"{name} read")
        share = f"{read.cpu_median_s / seconds:7.0%}" if read else f"{'unknown':>9}"
        print(
            f"{depth:>7} x {columns:>6} {rows:>4} {name:9}{stored[name] / 1e6:7.1f}"
            f"{seconds * 1e3:9.3f}{stored[name] / seconds / 1e9:8.1f}{share}",
            flush=True,
        )


def _stored_bytes(form: str, depth: int, columns: int) -> int:
    """The weights and the scales of a form."""
    kind, _, block = form.partition("/")
    bits = int(kind[-2:] if kind[-2:].isdigit() else kind[-1])
    scales = depth // int(block) * columns * _SCALE_BYTES if block else 0
    return depth * columns * bits // 8 + scales


if __name__ == "__main__":
    main()
