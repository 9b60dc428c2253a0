from __future__ import annotations

import math
from pathlib import Path

import pytest

from gcompile import ir
from gcompile.passes.precision import QuantizeStatic, product_regions
from gcompile.search import Goal, Journal, SearchResult, search
from gcompile.search.journal import name_of
from tests.passes.precision.models import CONV_CHAIN, context, fused
from tests.search.test_search import Bench, lowest

INT8, FP32 = ir.Precision.INT8, ir.Precision.FP32


class KilledError(Exception):
    """Stands for a kill: nothing in gcompile catches it."""


class Killed(Bench):
    """A bench whose search is killed at one measurement of accuracy."""

    kill_at = math.inf

    def evaluate(self, model: ir.Model) -> float:
        if self.measured + 1 >= self.kill_at:
            raise KilledError
        return super().evaluate(model)

    def journaled(self, path: Path) -> SearchResult:
        limit_j = (1 + lowest(self)) / 2 * self.energy_j
        goal = Goal(limit_j, 1e-4, baseline=1.0, evaluations=6)
        journal = Journal.open(path)
        return search(self.model, self.ctx, goal, self.realize, self.evaluate, journal=journal)


def bench() -> Killed:
    model = fused(CONV_CHAIN)
    made = Killed(model, context(model))
    made.slope = 100.0
    return made


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchResult, int, str]:
    """A search that nobody killed, how often it measured, and its journal."""
    path = tmp_path_factory.mktemp("journal") / "whole.jsonl"
    one = bench()
    return one.journaled(path), one.measured, path.read_text()


@pytest.mark.parametrize("kill_at", [1, 2, 4])
def test_a_killed_search_goes_on_and_ends_the_same(
    whole: tuple[SearchResult, int, str], kill_at: int, tmp_path: Path
) -> None:
    expected, measured, _ = whole
    path = tmp_path / "search.jsonl"
    killed = bench()
    killed.kill_at = kill_at
    with pytest.raises(KilledError):
        killed.journaled(path)
    resumed = bench()
    found = resumed.journaled(path)
    assert (found.best.choice, found.best.options) == (expected.best.choice, expected.best.options)
    assert found.explanation == expected.explanation
    assert [point.accuracy for point in found.tried] == [p.accuracy for p in expected.tried]
    assert resumed.measured == measured - (kill_at - 1)


@pytest.mark.parametrize("share", [0.0, 0.15, 0.5, 0.83])
def test_a_journal_cut_anywhere_is_completed(
    whole: tuple[SearchResult, int, str], share: float, tmp_path: Path
) -> None:
    expected, _, text = whole
    path = tmp_path / "search.jsonl"
    path.write_text(text[: int(len(text) * share)])
    found = bench().journaled(path)
    assert found.best.choice == expected.best.choice
    assert found.explanation == expected.explanation
    (tmp_path / "whole.jsonl").write_text(text)
    assert Journal.open(path).known == Journal.open(tmp_path / "whole.jsonl").known


def test_infinite_numbers_and_damaged_lines_survive(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "search.jsonl"
    journal = Journal.open(path)
    journal.put("a", math.inf)
    journal.put("b", 0.1)
    with path.open("a") as file:
        file.write('["c", 1\n{}\n[1]\n')
    assert Journal.open(path).known == {"a": math.inf, "b": 0.1}


def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    journal = Journal.open(tmp_path / "file" / "search.jsonl")
    assert journal.get("a", lambda: 1.0) == 1.0
    assert journal.get("a", lambda: 2.0) == 1.0


def test_names_tell_choices_and_options_apart() -> None:
    names = [region.name for region in product_regions(fused(CONV_CHAIN))]
    plain = QuantizeStatic()
    assert name_of({names[0]: INT8, names[1]: FP32}, plain) == name_of(
        {names[1]: FP32, names[0]: INT8}, plain
    )
    assert name_of({names[0]: INT8}, plain) != name_of({names[0]: FP32}, plain)
    assert name_of({}, plain) != name_of({}, QuantizeStatic(bias_correction=False))
