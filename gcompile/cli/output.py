"""Results go to standard output, everything said along the way to standard error."""

from __future__ import annotations

import shutil
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


def is_wide() -> bool:
    """Whether there is room for bars beside a table."""
    from gcompile.report.text import PLAIN_WIDTH

    return not sys.stdout.isatty() or shutil.get_terminal_size().columns >= PLAIN_WIDTH


def show_json(text: str) -> None:
    """Print a result as JSON."""
    sys.stdout.write(text.rstrip("\n") + "\n")


def say(message: str) -> None:
    """Tell the user something that is not the result."""
    print(message, file=sys.stderr, flush=True)
