"""Make a model smaller: remove channels, branches and taps, then refit what is left."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from gcompile import ir
from gcompile.errors import PassError
from gcompile.passes.base import Arrays, PassContext, Runner
from gcompile.passes.precision.ranges import check_finite
from gcompile.passes.precision.run_rows import batches, run_rows
from gcompile.passes.prune.branches import drop
from gcompile.passes.prune.groups import Group
from gcompile.passes.prune.kernels import Window, shrink
from gcompile.passes.prune.observe import sample
from gcompile.passes.prune.refit import Refit, affected
from gcompile.passes.prune.remove import remove

Choices = Sequence[tuple[Group, Sequence[int]]]
"""Groups with the numbers of the channels they keep."""


def reduce(
    model: ir.Model,
    choices: Choices,
    dropped: Collection[str],
    rows: Arrays,
    run: Runner | None,
    ridge: float | None = None,
    windows: Mapping[str, Window] | None = None,
) -> Mapping[str, str]:
    """Reduce a model in place.

    Args:
        model: A ready model.
        choices: Channels to keep.
        dropped: Names of branches to remove.
        rows: Calibration rows.
        run: Runs a model on them; None leaves weights as they are.
        ridge: See `Refit`.
        windows: What kernels keep, by the name of their product; dropped ones are left out.

    Returns:
        Why products were not refitted, by name.

    Raises:
        UsageError: A group or a branch is not that of this model.
    """
    whole = model.clone()
    kept = remove(model, choices)
    stands = drop(model, dropped)
    shrunk = shrink(model, windows or {})
    if run is None:
        return {}
    run_rows(whole, next(batches(rows, whole)), run)  # Shows that its rows are independent.
    refit = Refit(model, whole, kept, rows, run, ridge, stands)
    refit.these(affected(model, (name for name, _ in kept), stands, shrunk))
    return refit.skipped


def observations(
    model: ir.Model, ctx: PassContext, pass_name: str, otherwise: str = ""
) -> tuple[Arrays, Runner]:
    """Rows to observe the model on, and what runs it.

    `otherwise` says how to spell the pass so that it needs none, where that can be done.

    Raises:
        PassError: They are missing.
        UsageError: They hold NaN or infinity.
    """
    if not ctx.calibration or ctx.run is None:
        remedy = f", or look at weights alone with {otherwise}" if otherwise else ""
        raise PassError(
            f"Pass {pass_name!r} needs calibration rows to see what is missed. Give some with "
            f"--calib rows.npz{remedy}."
        )
    for name, array in ctx.calibration.items():
        check_finite(name, array, "calibration")
    return sample(model, ctx.calibration), ctx.run
