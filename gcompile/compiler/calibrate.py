"""Calibrate a target: what its models do, out of the real pipeline, against measured rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from gcompile import ir
from gcompile.compiler.sources import load_model
from gcompile.energy import Roofline
from gcompile.energy.calibration import (
    MeasuredRow,
    Observation,
    calibrated,
    read_rows,
    terms_of,
)
from gcompile.errors import UsageError
from gcompile.passes import PassContext
from gcompile.passes.pipelines import exact_pipeline
from gcompile.targets import Target, load_target


def calibrate(
    base: Target | str | Path,
    rows: str | Path | Iterable[object],
    models_dir: str | Path,
) -> Target:
    """Fit a target's coefficients to measured joules, and return the calibrated target.

    The result is used wherever a target is; `gcompile.targets.write_target` stores it.

    Args:
        base: The device the rows were measured on, or the description nearest to it.
        rows: A CSV file with the columns `model,energy_j[,time_s,batch,precision]`, or mappings or
            dataclasses with these names: whole-system wall joules of single inferences.
        models_dir: Where `MODEL.onnx` of each row is found.

    Raises:
        UsageError: A row, a model or the whole cannot be used; the message says what to do.
    """
    target = base if isinstance(base, Target) else load_target(base)
    measured = read_rows(rows)
    folder = Path(models_dir)
    observations = [
        observe(row, exact_regions(_file(row, folder), row.batch, target)) for row in measured
    ]
    source = f"{len(measured)} rows" + (
        f" of {Path(rows).name}" if isinstance(rows, str | Path) else " given by the caller"
    )
    return calibrated(target, observations, source)


def exact_regions(file: Path, batch: int, target: Target) -> list[ir.Region]:
    """Return the regions that an estimate of the model prices."""
    model, _ = load_model(file, None, batch)
    exact_pipeline().apply(model, PassContext(target=target, energy=Roofline()))
    return ir.regions(model.graph)


def observe(row: MeasuredRow, regions: list[ir.Region]) -> Observation:
    """Count what the row's model does."""
    precision = row.precision or _own_precision(regions)
    amounts: Counter[str] = Counter()
    for region in regions:
        amounts.update(terms_of(region, precision))
    # Networks of one architecture run the same operators in the same order.
    return Observation(row, precision, amounts, tuple(region.op for region in regions))


def _own_precision(regions: list[ir.Region]) -> ir.Precision:
    """Return the format that most of the products are in."""
    operations: Counter[ir.Precision] = Counter({ir.Precision.FP32: 0})
    for region in regions:
        operations[region.precision] += ir.work_of(region).product_ops
    return operations.most_common(1)[0][0]


def _file(row: MeasuredRow, folder: Path) -> Path:
    if not folder.is_dir():
        raise UsageError(f"The folder of models {str(folder)!r} does not exist. Give it as DIR.")
    for name in (row.model, f"{row.model}.onnx"):
        if name.endswith(".onnx") and (folder / name).is_file():
            return folder / name
    raise UsageError(
        f"No file {row.model.removesuffix('.onnx') + '.onnx'!r} in {str(folder)!r}, but a row "
        "measures it. Put the model there, or drop the row."
    )
