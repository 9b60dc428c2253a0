"""Show a rewrite as text: before and after."""

from __future__ import annotations

import textwrap

from gcompile import ir, testing
from gcompile.passes import Pass, PassRecord
from tests.passes.example_models import HEADER


def parse(text: str) -> ir.Model:
    return ir.parse(HEADER + text)


def check_rewrite(pass_: Pass, before: str, after: str) -> PassRecord:
    """Hold the pass to its contract on `before`, and compare the nodes with `after`."""
    model = parse(before)
    record = testing.check_pass(pass_, model)
    assert testing.to_lines(model) == textwrap.dedent(after).strip()
    return record


def check_refusal(pass_: Pass, text: str, *reasons: str) -> None:
    """Check that the pass leaves the model alone and says why."""
    model = parse(text)
    before = testing.to_lines(model)
    record = testing.check_pass(pass_, model)
    assert testing.to_lines(model) == before
    assert tuple(record.skipped) == reasons
