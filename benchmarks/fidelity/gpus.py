"""Joules per inference at the wall that others measured, against target files nobody calibrated.

    python -m benchmarks.fidelity.gpus

Each point is a whole system under MLPerf's load: accelerators at a power limit or clock, the box
around them, and the losses of its supply. The prediction knows the target file, the setting and
the network. BERT is priced at 178 tokens, which is the mean length of the questions of the load;
submissions leave out the padding.
"""

from __future__ import annotations

import argparse
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path

import gcompile
from benchmarks.networks import network, save
from gcompile import ir
from gcompile.energy import Roofline
from gcompile.targets import Target, load_target
from gcompile.targets.settings import with_clock, with_power_limit

_POINTS = Path(__file__).with_name("points.toml")


@dataclass(frozen=True)
class Point:
    """One measured system and load.

    Attributes:
        threads: Cores of a CPU that share the work.
        limit_w: The power limit of the accelerator that was set; 0 for its own.
        clock_hz: The clock that was set; 0 for its own.
        energy_j: Joules at the wall per inference.
        time_s: Seconds of one accelerator per inference.
    """

    system: str
    setting: str
    target: str
    network: str
    precision: str
    batch: int
    energy_j: float
    time_s: float
    source: str
    threads: int = 1
    limit_w: float = 0.0
    clock_hz: float = 0.0

    @property
    def device(self) -> Target:
        """The target at the setting of the measurement."""
        device = load_target(self.target)
        if self.clock_hz:
            device = with_clock(device, self.clock_hz)
        return with_power_limit(device, self.limit_w) if self.limit_w else device

    @property
    def is_gpu(self) -> bool:
        """The points that have a bar to meet."""
        return load_target(self.target).kind == "gpu"


@dataclass(frozen=True)
class Row:
    """A point beside its prediction, per inference."""

    point: Point
    energy_j: float
    time_s: float

    @property
    def error(self) -> float:
        """Relative error of the joules."""
        return self.energy_j / self.point.energy_j - 1


def points() -> list[Point]:
    """Read every point."""
    return [Point(**entry) for entry in tomllib.loads(_POINTS.read_text())["points"]]


def rows() -> list[Row]:
    """Predict every point from its target file alone."""
    with tempfile.TemporaryDirectory() as folder:
        return [_row(point, Path(folder)) for point in points()]


def int8_over_fp16(found: list[Row]) -> tuple[float, float]:
    """Return the predicted and the measured ratio of BERT's joules on the A100."""
    bert = {r.point.precision: r for r in found
            if "a100-pcie" in r.point.target and "bert" in r.point.network}  # fmt: skip
    int8, fp16 = bert["int8"], bert["fp16"]
    return int8.energy_j / fp16.energy_j, int8.point.energy_j / fp16.point.energy_j


def report(found: list[Row]) -> str:
    """Lay the points out as a table, and the ratio below it."""
    lines = [
        f"{'target':32}{'network':16}{'as':5}{'setting':>14}{'measured J':>12}{'predicted J':>12}"
        f"{'error':>8}{'measured s':>12}{'predicted s':>12}"
    ]
    for row in found:
        p = row.point
        setting = f"{p.limit_w:g} W" if p.limit_w else ""
        setting = f"{p.clock_hz / 1e6:g} MHz" if p.clock_hz else setting
        lines.append(
            f"{p.target:32}{p.network:16}{p.precision:5}{setting:>14}{p.energy_j:12.4g}"
            f"{row.energy_j:12.4g}{row.error:+8.0%}{p.time_s:12.3g}{row.time_s:12.3g}"
        )
    predicted, measured = int8_over_fp16(found)
    lines.append(f"A100 BERT int8/fp16: measured {measured:.3f}, predicted {predicted:.3f}")
    return "\n".join(lines)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(report(rows()))


def _row(point: Point, folder: Path) -> Row:
    path = folder / f"{point.network}-{point.batch}.onnx"
    if not path.exists():
        save(network(point.network, point.batch), path)
    # What was measured ran on TensorRT, whose kernels are not those that gcompile emits.
    total = gcompile.estimate(
        path,
        point.device,
        precision=ir.Precision(point.precision),
        threads=point.threads,
        pricing=Roofline(),
    ).total
    return Row(point, total.energy_j / point.batch, total.time_s / point.batch)


if __name__ == "__main__":
    main()
