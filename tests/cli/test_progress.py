from __future__ import annotations

import pytest

from gcompile.cli.progress import progress, remaining


@pytest.mark.parametrize(
    ("elapsed_s", "fraction", "text"),
    [(10, 0.5, "10 s"), (60, 0.25, "3 min"), (3600, 0.1, "9.0 h"), (5, 1.0, "0 s")],
)
def test_the_rest_takes_as_long_as_what_is_done(
    elapsed_s: float, fraction: float, text: str
) -> None:
    assert remaining(elapsed_s, fraction) == text


def test_off_a_terminal_a_stage_is_a_line_and_the_rest_is_told_seldom(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter([0.0, 1.0, 2.0, 40.0, 41.0])
    monkeypatch.setattr("gcompile.cli.progress.time.monotonic", lambda: next(clock))
    with progress(quiet=False) as report:
        assert report is not None
        for fraction in (0.1, 0.2, 0.5, 0.6):
            report("measuring sensitivities", fraction)
    assert capsys.readouterr().err.splitlines() == [
        "gcompile: measuring sensitivities ...",
        "gcompile: measuring sensitivities, 50% done, about 40 s left",
    ]
