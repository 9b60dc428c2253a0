"""How many threads run an artefact, and on which CPUs.

TVM keeps one pool of workers per calling thread. Four of its habits need care:

- By default it uses half of the logical CPUs, which on a two-CPU machine means no parallelism.
- A pool never grows after its first use. It is therefore created for every CPU that the process
  may use, and only `count` workers are given work; the others sleep.
- Configuring a pool changes the affinity of the calling thread. It is put back, because the
  caller's thread belongs to the caller.
- A worker without work asks for some 300,000 times before it sleeps. After a call that takes 4 ms
  it burns 150 ms of a core's time. Here it waits about as long as it takes to wake it and to give
  it a CPU again, which costs at most twice what the best choice would (Karlin et al.,
  "Competitive snoopy caching", 1988). Kernels of one inference follow each other within that time.

Unbound, the operating system places workers and caller. Bound, worker i stays on the i-th CPU of
the process and the caller on the first: the steadiest timing on an otherwise idle machine, because
caller and worker can never share a CPU. Two threads on two CPUs halve the time if bound. Unbound,
Linux often wakes the worker on the caller's own CPU, and then they take as long as one thread.
Binding is opt-in, because the caller stays pinned, and because several processes that bind
themselves would all choose the same CPUs.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from gcompile.errors import RunError

_ONE_CPU_PER_THREAD = -2
_ALL_CPUS_PER_THREAD = -3

_SPIN_VARIABLE = "TVM_THREAD_POOL_SPIN_COUNT"
_SPINS = 1000
"""Times that a worker yields its CPU before it sleeps: 0.6 ms where a yield takes 0.6 us."""

_state = threading.local()


def available_cpus() -> list[int]:
    """The CPUs this thread may run on, not counting a binding made here."""
    unbound: list[int] | None = getattr(_state, "unbound_cpus", None)
    if unbound is not None:
        return unbound
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def thread_count(requested: int | None, compiled_for: int) -> int:
    """The number of threads to use: the request, or as compiled where the CPUs suffice.

    Raises:
        RunError: The request is below one or above the CPUs of this process.
    """
    cpus = len(available_cpus())
    if requested is None:
        return min(compiled_for, cpus)
    if not 1 <= requested <= cpus:
        raise RunError(
            f"threads={requested} cannot be used: this process may run on {cpus} CPU(s); "
            f"give a number from 1 to {cpus}."
        )
    return requested


def use_threads(
    configure: Callable[..., object], count: int, bind: bool, is_serial: bool = False
) -> None:
    """Make parallel code called from this thread use `count` threads; cheap when it already does.

    How long idle workers of this process wait is set in its environment, which is where TVM looks
    when the first of them starts; a value that is there already stays.

    Serial code makes no pool where there is none: new workers spin for a while before they sleep.

    Args:
        configure: TVM's `runtime.config_threadpool`.
        count: Threads to use, the caller included.
        bind: Pin each worker to one CPU, and the calling thread to the first.
        is_serial: The code that will run never starts a worker.
    """
    if is_serial and not bind and getattr(_state, "configured", None) is None:
        return
    if getattr(_state, "configured", None) == (count, bind):
        return
    cpus = available_cpus()
    mode = _ONE_CPU_PER_THREAD if bind else _ALL_CPUS_PER_THREAD
    os.environ.setdefault(_SPIN_VARIABLE, str(_SPINS))
    configure(mode, count, [str(cpu) for cpu in cpus])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus[:1] if bind else cpus)
    _state.unbound_cpus = cpus if bind else None
    _state.configured = (count, bind)
