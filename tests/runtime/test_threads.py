"""How long workers wait is said before the first of them starts."""

from __future__ import annotations

import os
import threading

import pytest

from gcompile.runtime.threads import use_threads

_VARIABLE = "TVM_THREAD_POOL_SPIN_COUNT"


def _seen_when_configuring() -> list[str | None]:
    """What the environment holds when a thread that has no pool yet configures one."""
    seen: list[str | None] = []

    def configure(*_: object) -> None:
        seen.append(os.environ.get(_VARIABLE))

    thread = threading.Thread(target=use_threads, args=(configure, 1, False))
    thread.start()
    thread.join()
    return seen


def test_idle_workers_sleep_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(_VARIABLE, "")  # So that it is put back.
    monkeypatch.delenv(_VARIABLE)
    (count,) = _seen_when_configuring()
    assert count is not None
    assert 0 < int(count) < 10_000


def test_how_long_workers_wait_is_the_users_choice_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(_VARIABLE, "7")
    assert _seen_when_configuring() == ["7"]
