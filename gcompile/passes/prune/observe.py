"""Run a model on calibration rows and look at chosen values inside it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.precision.ranges.histogram import expose
from gcompile.passes.precision.run_rows import batches, run_rows

_ELEMENTS_PER_RUN = 1 << 23
_ROWS_PER_RUN = 64
_OPERATIONS = 2e12
_LEAST_ROWS, _MOST_ROWS = 8, 1024


def observe(
    model: ir.Model, names: Sequence[str], rows: Arrays, run: Runner, elements: int
) -> Iterator[Arrays]:
    """Yield the values named, and the inputs, for a few rows after the other.

    Args:
        model: A ready model.
        names: Values of the main graph.
        rows: Rows for every input.
        run: Runs a model on rows.
        elements: How many numbers an inference makes of what is observed: memory is bounded by it.
    """
    watched = expose(model, names)
    for value in [v for v in watched.graph.outputs if str(v.name) not in names]:
        watched.graph.outputs.remove(value)
    ir.remove_unused(watched)
    size = min(max(_ELEMENTS_PER_RUN // max(elements, 1), 1), _ROWS_PER_RUN)
    for piece in batches(rows, model, size):
        given = {str(v.name): piece[str(v.name)] for v in watched.graph.inputs}
        yield {**piece, **(run_rows(watched, given, run) if watched.graph.outputs else {})}


def every_so_many(rows: int, pixels: int, wanted: int) -> slice:
    """Pick about `wanted` of `rows` rows, pixels of many images, from everywhere in an image.

    Neighbouring pixels say much the same: a few of each image say more than all of a few images.
    """
    step = max(rows // max(wanted, 1), 1)
    while math.gcd(step, pixels) > 1:
        step += 1
    return slice(None, None, step)


def inferences(model: ir.Model, rows: Arrays) -> int:
    """How many inferences the rows make."""
    return sum(1 for _ in batches(rows, model, 1))


def sample(model: ir.Model, calibration: Arrays, runs: int) -> Arrays:
    """As many rows as `runs` runs of the model can take in bounded work: 8 to 1024 inferences."""
    operations = sum(ir.work_of(region).product_ops for region in ir.regions(model.graph))
    rows = int(_OPERATIONS / max(operations * max(runs, 1), 1))
    return next(batches(calibration, model, min(max(rows, _LEAST_ROWS), _MOST_ROWS)))
