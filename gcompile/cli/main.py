"""The entry point: the bare form, exit codes, and one sentence per error."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from gcompile.cli.app import COMMANDS, app
from gcompile.cli.build import INTERRUPTED
from gcompile.errors import GcompileError, UsageError

UNEXPECTED = 3

_DEBUG = "--debug"
_BEFORE_COMMANDS = frozenset({"--help", "-h", "--version", _DEBUG})


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run one command and end the process with its exit code.

    0 done; 1 budget or accuracy not met, or a comparison found a regression; 2 usage or
    configuration; 3 load, import, compile or target; 4 run, measure or verify; 130 interrupted.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = _DEBUG in given
    _replace_characters_the_terminal_lacks()
    try:
        app(args=_with_command([a for a in given if a != _DEBUG]), prog_name="gcompile")
    except KeyboardInterrupt:
        _end("interrupted", INTERRUPTED, debug=False)
    except GcompileError as error:
        _end(str(error), error.exit_code, debug)
    except Exception as error:
        hint = "" if debug else f" Run again with {_DEBUG} to see where."
        name, text = type(error).__name__, _first_line(error)
        _end(f"Something unexpected went wrong: {name}: {text}.{hint}", UNEXPECTED, debug)
    sys.exit(0)


def _with_command(arguments: list[str]) -> list[str]:
    """`gcompile model.onnx --target cpu` means `gcompile build model.onnx --target cpu`."""
    if not arguments:
        return ["--help"]
    first = arguments[0]
    if first in COMMANDS or first in _BEFORE_COMMANDS or "completion" in first:
        return arguments
    _refuse_misspelt_command(first)
    return ["build", *arguments]


def _refuse_misspelt_command(first: str) -> None:
    if first.startswith("-") or any(c in first for c in "./:") or Path(first).exists():
        return
    close = get_close_matches(first, COMMANDS, 1)
    meant = f"Did you mean `gcompile {close[0]}`? " if close else ""
    raise UsageError(
        f"{first!r} is neither a command nor a model file. {meant}Commands: {', '.join(COMMANDS)}."
    )


def _end(message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    print(f"gcompile: {message}", file=sys.stderr)
    sys.exit(code)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no message"


def _replace_characters_the_terminal_lacks() -> None:
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="replace")
