"""What a run of the benchmark found, and the tables and the plot that show it."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

OURS = "gcompile"
TIED = 0.9
"""A model below this share of the best peer is named: its users would lose by changing."""


@dataclass(frozen=True)
class Row:
    """One contender on one model; times are medians per inference.

    Attributes:
        peak_share: Share of the machine's measured peak, by CPU time; 0 where it is not known.
        reason: Why there are no times; empty when there are.
    """

    model: str
    precision: str
    threads: int
    contender: str
    cpu_ms: float = 0.0
    wall_ms: float = 0.0
    build_s: float = 0.0
    peak_share: float = 0.0
    reason: str = ""

    def time_ms(self, clock: str) -> float:
        """`cpu` or `wall`."""
        return self.cpu_ms if clock == "cpu" else self.wall_ms


@dataclass(frozen=True)
class Case:
    """All contenders on one model, precision and number of threads."""

    rows: tuple[Row, ...]

    @property
    def first(self) -> Row:
        return self.rows[0]

    @property
    def key(self) -> tuple[str, str, int]:
        return self.first.model, self.first.precision, self.first.threads

    @property
    def ours(self) -> Row | None:
        return next((r for r in self.rows if r.contender == OURS and not r.reason), None)

    def best_peer(self, clock: str) -> Row | None:
        """The quickest contender besides gcompile."""
        peers = [r for r in self.rows if r.contender != OURS and not r.reason]
        return min(peers, key=lambda r: r.time_ms(clock), default=None)

    def ratio(self, clock: str) -> float | None:
        """How many times as fast gcompile is as the best peer."""
        ours, peer = self.ours, self.best_peer(clock)
        return peer.time_ms(clock) / ours.time_ms(clock) if ours and peer else None


def print_case(case: Case) -> None:
    """One line for each contender, then the ratio."""
    head = case.first
    print(f"\n{head.model}, {head.precision}, {head.threads} thread(s)", flush=True)
    for row in case.rows:
        if row.reason:
            print(f"  {row.contender:14} {row.reason}")
            continue
        share = f"{row.peak_share:7.1%} of peak" if row.peak_share else ""
        print(
            f"  {row.contender:14}{row.cpu_ms:10.3f} ms CPU{row.wall_ms:10.3f} ms wall"
            f"{share}   ready in {row.build_s:.0f} s"
        )


def print_summary(cases: Sequence[Case]) -> None:
    """A table for each precision and number of threads, with the geometric mean."""
    for precision, threads in dict.fromkeys((c.first.precision, c.first.threads) for c in cases):
        of_kind = [
            c for c in cases if (c.first.precision, c.first.threads) == (precision, threads)
        ]
        _print_table(of_kind, f"{precision}, {threads} thread(s)")


def _print_table(cases: Sequence[Case], title: str) -> None:
    contenders = list(dict.fromkeys(row.contender for case in cases for row in case.rows))
    print(f"\n{title}: median ms of CPU time per inference; x = best peer / gcompile")
    print(f"{'':26}" + "".join(f"{name:>15}" for name in contenders) + "   x CPU  x wall   peak")
    for case in cases:
        by_name = {row.contender: row for row in case.rows}
        cells = "".join(_cell(by_name.get(name)) for name in contenders)
        ratios = "".join(f"{r:8.2f}" if (r := case.ratio(c)) else "       -" for c in CLOCKS)
        share = f"{case.ours.peak_share:7.1%}" if case.ours and case.ours.peak_share else ""
        print(f"{case.first.model:26}{cells}{ratios}{share}")
    means = "".join(_mean_cell(_ratios(cases, clock)) for clock in CLOCKS)
    print(f"{'geometric mean':26}{'':{15 * len(contenders)}}{means}")
    behind = [c.first.model for c in cases if (r := c.ratio("cpu")) is not None and r < TIED]
    if behind:
        print(f"below {TIED} of the best peer: {', '.join(behind)}")
    missing = [c.first.model for c in cases if c.ours is None]
    if missing:
        print(f"gcompile has no time for: {', '.join(missing)}")


def _cell(row: Row | None) -> str:
    return f"{row.cpu_ms:15.3f}" if row is not None and not row.reason else f"{'-':>15}"


def _mean_cell(ratios: Sequence[float]) -> str:
    return f"{geometric_mean(ratios):8.2f}" if ratios else "       -"


def _ratios(cases: Iterable[Case], clock: str) -> list[float]:
    return [ratio for case in cases if (ratio := case.ratio(clock)) is not None]


def geometric_mean(ratios: Sequence[float]) -> float:
    """The mean that treats twice as fast and half as fast alike."""
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def write_json(path: Path, facts: dict[str, object], cases: Sequence[Case]) -> None:
    """Every row, beside what is known of the machine."""
    rows = [asdict(row) for case in cases for row in case.rows]
    path.write_text(json.dumps({**facts, "rows": rows}, indent=1) + "\n")


def read_json(path: Path) -> list[Case]:
    """The cases of an earlier run; none where the file is not there."""
    if not path.is_file():
        return []
    rows = [Row(**row) for row in json.loads(path.read_text())["rows"]]
    groups = itertools.groupby(rows, key=lambda r: (r.model, r.precision, r.threads))
    return [Case(tuple(group)) for _, group in groups]


def plot(path: Path, title: str, cases: Sequence[Case]) -> str:
    """Draw the ratios of every case, and say what was written."""
    try:
        import matplotlib
    except ImportError:
        return "No plot: matplotlib is not installed (pip install matplotlib)."
    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = [(case, ratio) for case in cases if (ratio := case.ratio("cpu")) is not None]
    labels = [f"{c.first.model} {c.first.precision} ×{c.first.threads}" for c, _ in shown]
    figure, axes = pyplot.subplots(figsize=(9, 1.5 + 0.2 * len(shown)))
    colors = ["tab:green" if ratio >= 1 else "tab:red" for _, ratio in shown]
    axes.barh(labels, [ratio for _, ratio in shown], color=colors)
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel("CPU time of the best peer / CPU time of gcompile")
    axes.set_title(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    return f"Plot: {path}"


CLOCKS = ("cpu", "wall")
