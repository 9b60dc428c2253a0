"""Leave a PyTorch module as it was, whatever reading it does; without importing PyTorch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def for_inference(module: Any, scripted: type) -> Iterator[None]:
    """Put the module into evaluation mode; undo that, and whatever `forward` assigns.

    Args:
        module: The `torch.nn.Module`.
        scripted: The type of modules that keep their state outside of Python.
    """
    parts = list(module.modules())
    training = [part.training for part in parts]
    states = [
        [(own, dict(own)) for own in (vars(part), part._buffers, part._parameters, part._modules)]
        for part in parts
        if not isinstance(part, scripted)
    ]
    try:
        module.eval()
        yield
    finally:
        for own, before in (held for state in states for held in state):
            own.clear()
            own.update(before)
        for part, mode in zip(parts, training, strict=True):
            part.training = mode


@contextlib.contextmanager
def buffers_kept(module: Any) -> Iterator[None]:
    """Undo what running the module does to its buffers in place."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, values in before:
            buffer.copy_(values)
