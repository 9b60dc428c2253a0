"""Draw a sweep as a PNG, for papers and issues."""

from __future__ import annotations

from io import BytesIO

from gcompile.errors import BackendUnavailableError
from gcompile.report.sweep import SweepReport
from gcompile.report.sweep_page import quality


def sweep_to_png(report: SweepReport) -> bytes:
    """The points over their energies on a logarithmic scale, the front joined by a line.

    Raises:
        BackendUnavailableError: matplotlib is not installed.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise BackendUnavailableError(
            "A PNG needs matplotlib, which is not installed; install it with "
            "`pip install 'gcompile[plot]'`."
        ) from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = [(p, good) for p in report.points if (good := quality(p)) is not None]
    joined = [(p.energy_j, good) for p, good in shown if p.on_front]
    figure, axes = pyplot.subplots(figsize=(7, 4))
    axes.plot(*zip(*joined, strict=True), "o-", label="front") if joined else None
    beaten = [(p.energy_j, good) for p, good in shown if not p.on_front]
    axes.plot(*zip(*beaten, strict=True), "x", color="0.6", label="beaten") if beaten else None
    axes.set_xscale("log")
    axes.set_xlabel("joules per inference, estimated")
    axes.set_ylabel(report.metric or "SQNR in dB")
    axes.set_title(f"{report.model} on {report.target}", fontsize=10)
    axes.legend()
    figure.tight_layout()
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    pyplot.close(figure)
    return drawn.getvalue()
