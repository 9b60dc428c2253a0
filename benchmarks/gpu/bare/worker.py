"""One process of `run_cases`: reads its case from standard input and says what came of it.

After an error of the driver nothing in a process can be believed, so it ends; the next one goes on
behind the item that failed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from benchmarks.gpu.bare.case import AbsentError, WrongError

Item = tuple[str, Callable[[], dict[str, Any]]]
"""A name, and what gives its figures."""

_BROKEN = 5


def main() -> int:
    """Run the items that are left."""
    task = json.load(sys.stdin)
    say = _own_output()
    folder, device = Path.cwd(), int(task["device"])
    for name, run in items(task["kind"], task["settings"], folder, device):
        if name in task["skip"]:
            continue
        _write(say, {"begin": name})
        try:
            row = {"status": "passed", "figures": run()}
        except AbsentError as error:
            row = {"status": "absent", "reason": str(error)}
        except WrongError as error:
            row = {"status": "failed", "reason": str(error), "figures": error.figures}
        except Exception as error:  # Whatever it is, is the item's row.
            _write(say, {"row": {"status": "failed", "reason": sentence(error)}})
            return _BROKEN
        _write(say, {"row": row})
    return 0


def items(kind: str, settings: dict[str, Any], folder: Path, device: int) -> Iterator[Item]:
    """What a case is made of; only its own kind is imported."""
    if kind == "kernels":
        from benchmarks.gpu.bare.kernels import kernel_items

        return kernel_items(settings, folder, device)
    if kind == "artefact":
        from benchmarks.gpu.bare.artefact import artefact_items

        return artefact_items(settings, folder, device)
    if kind == "ceiling":
        from benchmarks.gpu.bare.ceiling import ceiling_items

        return ceiling_items(settings, device)
    from benchmarks.gpu.bare.peers import peer_items

    return peer_items(settings, folder, device)


def sentence(error: BaseException) -> str:
    """The first line of an error, with its kind."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:300]


def _own_output() -> IO[str]:
    """Keep standard output for messages: libraries that print do so to standard error."""
    say = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return say


def _write(say: IO[str], message: dict[str, Any]) -> None:
    say.write(json.dumps(message) + "\n")
    say.flush()


if __name__ == "__main__":
    sys.exit(main())
