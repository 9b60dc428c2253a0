"""Seconds the energy model predicts for this machine, against seconds the built code takes.

    python -m benchmarks.predicted_times [--data DIR] [--models NAME ...] [--json out.json]

Each model is compiled in each precision and its final graph is priced, tiles and all; then all are
run in turn and the medians of CPU time are compared. Architectures come from
`benchmarks.networks`, small real models from examples/ and from DIR. What the table of
microarchitectures calls `measured` was read off this.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

import gcompile
from benchmarks.networks import network, save
from benchmarks.timing import interleave, machine
from gcompile import ir
from gcompile.backends.verify import seeded_inputs
from gcompile.energy import Roofline, estimate
from gcompile.errors import GcompileError
from gcompile.targets import load_target

NETWORKS = ("mobilenet-v1-1.0-224", "mobilenet-v2-1.0-224", "efficientnet-lite0", "resnet50")
REAL = ("digits_cnn", "cntk_mnist_cnn", "ic01_resnet8", "kws01_dscnn_f32", "ad01_autoencoder",
        "cifar_resnet20", "digits_mlp")  # fmt: skip
PRECISIONS = ("fp32", "bf16", "int8")
CALIBRATION_ROWS = 4

_EXAMPLES = Path(__file__).parent.parent / "examples"


@dataclass(frozen=True)
class Row:
    """One model in one precision."""

    model: str
    precision: str
    predicted_s: float
    measured_s: float

    @property
    def ratio(self) -> float:
        """Predicted over measured."""
        return self.predicted_s / self.measured_s


@dataclass(frozen=True)
class Built:
    """One compiled model: what it should take, and the call that shows what it does."""

    predicted_s: float
    call: Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="Folder of real models.")
    parser.add_argument("--models", nargs="*", help="Only these.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        paths = _paths(given.data, Path(folder))
        chosen = {n: p for n, p in paths.items() if not given.models or n in given.models}
        rows = [row for name, path in chosen.items() for row in compare(name, path, given.rounds)]
    print(f"{machine()}; one thread; medians of CPU time\n\n{report(rows)}")
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def compare(name: str, path: Path, rounds: int) -> list[Row]:
    """Build one model in every precision, price it and time it."""
    built = {p: b for p in PRECISIONS if (b := build(path, p)) is not None}
    samples = interleave({p: b.call for p, b in built.items()}, rounds)
    return [Row(name, p, built[p].predicted_s, s.cpu_median_s) for p, s in samples.items()]


def build(path: Path, precision: str) -> Built | None:
    """Compile and price one model; None where it cannot be built in this precision."""
    inputs = _inputs(path)
    rows = {name: np.concatenate([array] * CALIBRATION_ROWS) for name, array in inputs.items()}
    target = load_target("cpu")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compiled = gcompile.compile(path, target, calib=rows, precision=precision)
    except GcompileError as error:
        print(f"{path.stem} {precision}: {error}")
        return None
    predicted = estimate(compiled.model, target, Roofline())
    return Built(predicted.total.time_s, compiled.artifact.runner.prepare(inputs))


def report(rows: list[Row]) -> str:
    """Lay the rows out as a table, and the spread of the ratios below it."""
    lines = [f"{'model':24}{'as':6}{'predicted ms':>14}{'measured ms':>14}{'ratio':>8}"]
    lines += [
        f"{row.model:24}{row.precision:6}{row.predicted_s * 1e3:14.4f}"
        f"{row.measured_s * 1e3:14.4f}{row.ratio:8.2f}"
        for row in rows
    ]
    errors = sorted(max(row.ratio, 1 / row.ratio) - 1 for row in rows)
    lines.append(f"median error {statistics.median(errors):.0%}, worst {errors[-1]:.0%}")
    return "\n".join(lines)


def _paths(data: Path | None, folder: Path) -> dict[str, Path]:
    found = {}
    for name in REAL:
        places = (_EXAMPLES, *([data] if data else []))
        path = next((p / f"{name}.onnx" for p in places if (p / f"{name}.onnx").exists()), None)
        if path is not None:
            found[name] = path
    for name in NETWORKS:
        found[name] = folder / "whole" / f"{name}.onnx"
        save(network(name), folder / f"{name}.onnx")
        found[name].parent.mkdir(exist_ok=True)
        onnx.save(onnx.load(folder / f"{name}.onnx"), found[name])
    return found


def _inputs(path: Path) -> Mapping[str, NDArray[np.generic]]:
    """Make one seeded row for every input."""
    return dict(seeded_inputs(ir.load(path), seed=0))


if __name__ == "__main__":
    main()
