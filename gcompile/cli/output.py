"""Results go to standard output, everything said along the way to standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


def show(renderable: RenderableType) -> None:
    """Print a result: with colours on a terminal, as plain text elsewhere."""
    from rich.console import Console

    from gcompile.report.text import as_plain_text

    if sys.stdout.isatty():
        Console().print(renderable)
    else:
        sys.stdout.write(as_plain_text(renderable))


def show_json(text: str) -> None:
    """Print a result as JSON."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def say(message: str) -> None:
    """Tell the user something that is not the result."""
    print(message, file=sys.stderr, flush=True)
