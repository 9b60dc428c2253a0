"""Let the process keep memory that it freed, for what it allocates next."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""What `mallopt` calls them, in malloc.h of the GNU C library."""

_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Reuse blocks below a gibibyte where the C library is GNU's; others are left as they are.

    A build allocates and frees the same large arrays and activations many times. By default each
    is a mapping of its own, whose pages the system clears one by one at every first touch: a fifth
    of the time of a build.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(_MMAP_THRESHOLD, _KEPT_BYTES)
    mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
