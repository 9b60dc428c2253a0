"""Keep linear algebra on the thread that asks for it.

Products and solutions in calibration and pruning are small and many. Threads that BLAS divides
them among mostly wait for each other, spinning: on CPUs that others use as well they made a search
eight times slower. Sums in a fixed order also give the same weights on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def blas_on_one_thread() -> Iterator[None]:
    """Inside, BLAS computes on one thread; what it was set to comes back after."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
