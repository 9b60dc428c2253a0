"""How many random examples a kernel is tried on: the same ones every time, compiled one by one."""

from __future__ import annotations

from hypothesis import HealthCheck, settings


def few(count: int = 6) -> settings:
    """Settings of tests that compile a kernel for each example."""
    return settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
    )
