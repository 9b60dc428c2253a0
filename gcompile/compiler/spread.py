"""Measure sensitivities in several processes at once.

Each worker takes regions that follow each other, and returns what it measured by the names of the
search's journal. The search itself stays where it is: it finds its journal filled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.compiler.job import Job
from gcompile.compiler.one_thread import blas_on_one_thread
from gcompile.compiler.workers import Workers
from gcompile.energy import Roofline
from gcompile.passes import Arrays, PassContext
from gcompile.passes.precision import Histogram
from gcompile.search import Journal
from gcompile.search.sensitivity import measure_sensitivity, sample, unknown_regions
from gcompile.targets import Target

_PARTS_PER_WORKER = 4
"""More parts than workers, so that none waits long for the others at the end."""


@dataclass(frozen=True)
class Part:
    """Regions to measure, and all that it takes."""

    model: bytes
    target: Target
    seed: int
    precisions: tuple[ir.Precision, ...]
    histograms: Mapping[str, Histogram] | None
    rows: Arrays
    regions: tuple[str, ...]


def measure_part(part: Part) -> dict[str, float]:
    """Measure the regions of a part, in the process of a worker."""
    run = OnnxRuntime(side_by_side=1)
    context = PassContext(part.target, Roofline(), part.seed, calibration=part.rows, run=run)
    journal = Journal()
    with blas_on_one_thread():
        measure_sensitivity(
            ir.from_bytes(part.model),
            context,
            part.precisions,
            histograms=part.histograms,
            rows=part.rows,
            journal=journal,
            regions=part.regions,
            at_once=1,
        )
    return journal.known


def spread_sensitivities(
    job: Job,
    model: ir.Model,
    precisions: tuple[ir.Precision, ...],
    histograms: Mapping[str, Histogram] | None,
    journal: Journal,
    rows: Arrays | None = None,
) -> None:
    """Let the job's workers fill the journal with the sensitivities that it lacks.

    Args:
        job: Nothing happens where it has no workers or no calibration rows.
        model: The float model with its regions.
        precisions: The formats to try.
        histograms: What `observe_ranges` returned for the model.
        journal: Of the search that needs them.
        rows: The rows to measure on; by default those that the search takes.

    Raises:
        RunError: A worker was lost; what others measured is in the journal.
        UsageError: The model is too large to be sent.
    """
    if job.workers is None or job.calibration is None:
        return
    regions, trials = unknown_regions(model, precisions, journal)
    if not regions:
        return
    if rows is None:
        rows = sample(model, job.calibration.inputs, trials)
    data = ir.to_bytes(model)
    parts = [
        Part(data, job.context.target, job.context.seed, precisions, histograms, rows, some)
        for some in _cut(regions, job.workers)
    ]
    for done, found in enumerate(job.workers.each(measure_part, parts), 1):
        for name, error in found.items():
            journal.put(name, error)
        job.progress("measuring sensitivities", done / len(parts))


def _cut(regions: tuple[str, ...], workers: Workers) -> list[tuple[str, ...]]:
    """Pieces of neighbours, several for each worker."""
    count = min(len(regions), _PARTS_PER_WORKER * workers.count())
    edges = [len(regions) * index // count for index in range(count + 1)]
    return [regions[a:b] for a, b in pairwise(edges)]
