"""The measured boards: rows by board and precision, with the amounts of their networks."""

from __future__ import annotations

import csv
import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.networks import network, save
from gcompile import ir
from gcompile.compiler.calibrate import exact_regions, observe
from gcompile.energy.calibration import TERMS, MeasuredRow, Observation
from gcompile.targets import load_target

FILE = "mlperf_edge_measured.csv"
_PRECISIONS = {"8": ir.Precision.INT8, "32": ir.Precision.FP32}
Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Board:
    """All rows of one board and runtime in one precision."""

    system: str
    precision: ir.Precision
    observations: tuple[Observation, ...]
    families: tuple[str, ...]

    @property
    def amounts(self) -> Vector:
        """One line per row, one column per term."""
        return np.array([[o.amounts.get(term, 0.0) for term in TERMS] for o in self.observations])

    @property
    def joules(self) -> Vector:
        """The measured joules."""
        return np.array([o.row.energy_j for o in self.observations])

    @property
    def hardware(self) -> str:
        """The board without its runtime: a prior that saw one runtime has seen the board."""
        return next(h for h in ("rpi4", "xavier", "odroid", "firefly", "") if h in self.system)


def read_boards(data: Path) -> list[Board]:
    """Read every board of the file, in its order."""
    groups: dict[tuple[str, ir.Precision], list[dict[str, str]]] = {}
    with (data / FILE).open(encoding="utf-8") as stream:
        for line in csv.DictReader(stream):
            groups.setdefault((line["system"], _PRECISIONS[line["weight_bits"]]), []).append(line)
    return [
        Board(
            system,
            precision,
            tuple(_observation(line, precision) for line in lines),
            tuple(line["family"] for line in lines),
        )
        for (system, precision), lines in groups.items()
    ]


def _observation(line: dict[str, str], precision: ir.Precision) -> Observation:
    model = re.sub(r"-(non-)?quantized$", "", line["benchmark"])
    seen = counted(model, precision)
    row = MeasuredRow(model, float(line["energy_j"]), float(line["time_s"]), precision=precision)
    return Observation(row, precision, seen.amounts, seen.family)


@cache
def counted(model: str, precision: ir.Precision) -> Observation:
    """Count what a network does, as `gcompile calibrate` does."""
    row = MeasuredRow(model, 1.0, precision=precision)
    return observe(row, regions_of(model))


@cache
def regions_of(model: str) -> list[ir.Region]:
    """Return a network's regions after the exact passes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{model}.onnx"
        save(network(model), path)
        return exact_regions(path, 1, load_target("generic-arm64"))
