"""PyTorch modules on the command line: `my.module:factory`, and the shapes of its inputs."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

from gcompile.errors import InvalidModelError, UsageError

_SPEC = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_INPUT = re.compile(r"(?:(?P<name>[A-Za-z_]\w*)=)?(?P<sizes>\d+(?:,\d+)*)(?::(?P<type>\w+))?")


@dataclass(frozen=True, slots=True)
class InputShape:
    """One example input: its shape, its type as PyTorch names it, and perhaps its name."""

    sizes: tuple[int, ...]
    type_name: str = "float32"
    name: str | None = None

    @classmethod
    def parse(cls, text: str) -> InputShape:
        """Read `1,3,224,224`, `1,128:int64` or `mask=1,128:bool`.

        Raises:
            UsageError: The text is not of that form.
        """
        match = _INPUT.fullmatch(text)
        if match is None or not all(map(int, match["sizes"].split(","))):
            raise UsageError(
                f"Input shape {text!r:.80} is not [NAME=]SIZES[:TYPE] with positive whole "
                "numbers. Write it as --input-shape 1,3,224,224 or --input-shape ids=1,128:int64."
            )
        sizes = tuple(map(int, match["sizes"].split(",")))
        return cls(sizes, match["type"] or "float32", match["name"])


def is_module_spec(text: str) -> bool:
    """Whether the text names a factory in a Python module, and not a file."""
    return _SPEC.fullmatch(text) is not None and not Path(text).exists()


def load_module(spec: str) -> object:
    """Import `my.module` and return what its `factory` makes, or the module that it is.

    The current folder is searched too, after everything installed.

    Raises:
        UsageError: It cannot be imported.
        InvalidModelError: The factory fails.
    """
    module_name, _, name = spec.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Standard output is for results.
            found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"Model {spec!r} cannot be imported: {error}. Write my.module:factory, with "
            "my/module.py in this folder, on PYTHONPATH or installed."
        ) from error
    if not isinstance(found, type) and hasattr(found, "named_parameters"):
        return found
    if not callable(found):
        raise UsageError(
            f"Model {spec!r} is a {type(found).__name__}. Name a function or a class."
        )
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return found()
    except Exception as error:
        raise InvalidModelError(
            f"Model {spec!r} cannot be made: calling it without arguments raises "
            f"{type(error).__name__}: {error}. Name a function that returns the module."
        ) from error
