"""How long the parts of a search take: sensitivities of a large network, and the exact solver.

    python -m benchmarks.search_time [--model resnet50] [--rows 300] [--regions 500]

Sensitivities are those of bf16 and int8 for every region, on seeded rows of noise: their time does
not depend on what the rows show. The solver gets seeded random energies and sensitivities.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.networks import network, save
from benchmarks.timing import machine
from gcompile import ir
from gcompile.compiler.job import prepare
from gcompile.compiler.stages import Realizer, apply_exact_passes
from gcompile.search import Infeasible, Option, measure_sensitivity, solve

PRECISIONS = (ir.Precision.BF16, ir.Precision.INT8)
_OBSERVED = 8
_LIMITS = (0.35, 0.5, 0.7)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--regions", type=int, default=500)
    arguments = parser.parse_args()
    print(machine())
    solver_seconds(arguments.regions)
    with tempfile.TemporaryDirectory() as folder:
        sensitivity_seconds(arguments.model, arguments.rows, Path(folder))


def sensitivity_seconds(name: str, count: int, folder: Path) -> None:
    """Print how long measuring every region in every precision takes."""
    save(network(name), folder / "model.onnx")
    value = ir.load(folder / "model.onnx").graph.inputs[0]
    rng = np.random.default_rng(0)
    shape = ir.static_shape(value)
    rows = {str(value.name): rng.random((count, *shape[1:]), np.float32)}
    job = prepare(
        folder / "model.onnx",
        "cpu",
        budget=None, max_drop="1%", metric="top1", evaluate=None, precision=None, passes=None,
        calib={key: array[:_OBSERVED] for key, array in rows.items()},
        shapes=None, threads=1, seed=0, plugins=(), progress=None,
    )  # fmt: skip
    exact = apply_exact_passes(job)
    histograms = Realizer(job, exact).observed()
    start, cpu = time.perf_counter(), time.process_time()
    found = measure_sensitivity(
        exact.model, job.context, PRECISIONS, histograms=histograms, rows=rows
    )
    options = sum(len(able) - 1 for able in found.values())
    print(
        f"{name}: {options} options of {len(found)} regions over {count} rows: "
        f"{time.perf_counter() - start:.0f} s wall, {time.process_time() - cpu:.0f} s CPU"
    )


def solver_seconds(regions: int) -> None:
    """Print how long one exact solution takes at some limits."""
    rng = np.random.default_rng(0)
    space = {}
    for index in range(regions):
        energy = float(rng.lognormal(0, 1))
        error = float(rng.lognormal(0, 2))
        space[f"region{index}"] = [
            Option(ir.Precision.FP32, energy, 0.0),
            Option(ir.Precision.BF16, energy * 0.55, error * 0.01),
            Option(ir.Precision.INT8, energy * 0.3, error),
        ]
    total = sum(options[0].energy_j for options in space.values())
    for share in _LIMITS:
        start = time.perf_counter()
        found = solve(space, share * total)
        assert not isinstance(found, Infeasible)
        print(
            f"solver: {regions} regions x 3 precisions at {share:.0%} of fp32: "
            f"{time.perf_counter() - start:.2f} s"
        )


if __name__ == "__main__":
    main()
