"""What this GPU really reaches in a large product, by cuBLAS through PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from benchmarks.gpu.bare.case import AbsentError
from benchmarks.gpu.bare.timing import joules, timed
from benchmarks.gpu.bare.worker import Item


def ceiling_items(settings: dict[str, Any], device: int) -> Iterator[Item]:
    """One item for each type of the elements."""
    for dtype in settings["dtypes"]:
        yield dtype, partial(_product, dtype, int(settings["size"]), device)


def _product(dtype: str, size: int, device: int) -> dict[str, Any]:
    try:
        import torch
    except ImportError:
        raise AbsentError("PyTorch is not installed, so the ceiling is not known") from None
    if not torch.cuda.is_available():
        raise AbsentError("PyTorch is installed without CUDA")
    torch.cuda.set_device(device)
    torch.backends.cuda.matmul.allow_tf32 = True
    kind = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
    a, b = (torch.randn(size, size, device="cuda").to(kind) for _ in range(2))

    def queue(count: int) -> None:
        for _ in range(count):
            torch.matmul(a, b)
        torch.cuda.synchronize()

    found = timed(lambda: queue(1), queue)
    return found | joules(queue, device) | {"flop_per_s": 2 * size**3 / found["queued_s"]}
