"""Search for the precisions that meet an energy budget at the least loss of accuracy."""

from gcompile.search.budget_solver import Infeasible, Option, Solution, solve
from gcompile.search.dataset import Dataset, read_dataset
from gcompile.search.fit import Fitter
from gcompile.search.journal import Journal
from gcompile.search.metrics import Metric, cosine, load_metric, signal_to_noise_db, top1
from gcompile.search.point import (
    Evaluate,
    Point,
    Realize,
    Realized,
    SearchResult,
    Status,
    precision_counts,
)
from gcompile.search.search import EVALUATIONS, Goal, search
from gcompile.search.sensitivity import Progress, measure_sensitivity
from gcompile.search.sweep import POINTS, front, sweep

__all__ = [
    "EVALUATIONS",
    "POINTS",
    "Dataset",
    "Evaluate",
    "Fitter",
    "Goal",
    "Infeasible",
    "Journal",
    "Metric",
    "Option",
    "Point",
    "Progress",
    "Realize",
    "Realized",
    "SearchResult",
    "Solution",
    "Status",
    "cosine",
    "front",
    "load_metric",
    "measure_sensitivity",
    "precision_counts",
    "read_dataset",
    "search",
    "signal_to_noise_db",
    "solve",
    "sweep",
    "top1",
]
