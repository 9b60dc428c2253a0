"""Search for the precisions and the pruning that meet an energy budget at least loss."""

from gcompile.search.budget_solver import Infeasible, Option, Solution, picked, solve
from gcompile.search.choice import Choice, Removal, Setting, precisions_of
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
from gcompile.search.reductions import Reductions
from gcompile.search.search import EVALUATIONS, Goal, search
from gcompile.search.sensitivity import Progress, measure_sensitivity
from gcompile.search.sweep import POINTS, front, sweep

__all__ = [
    "EVALUATIONS",
    "POINTS",
    "Choice",
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
    "Reductions",
    "Removal",
    "SearchResult",
    "Setting",
    "Solution",
    "Status",
    "cosine",
    "front",
    "load_metric",
    "measure_sensitivity",
    "picked",
    "precision_counts",
    "precisions_of",
    "read_dataset",
    "search",
    "signal_to_noise_db",
    "solve",
    "sweep",
    "top1",
]
