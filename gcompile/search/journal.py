"""What a search measured, kept on disk as it goes.

A search is deterministic. One that was killed and starts again finds its own measurements in the
journal, takes the same turns without measuring twice, and ends with the same result.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from gcompile.passes.precision import QuantizeStatic
from gcompile.search.choice import Choice


@dataclass
class Journal:
    """Numbers by name; each is on disk before the search goes on.

    Attributes:
        path: A file with one JSON array `[name, number]` a line; None keeps nothing.
        known: What is known, of this run and of earlier ones.
    """

    path: Path | None = None
    known: dict[str, float] = field(default_factory=dict)

    @classmethod
    def open(cls, path: Path) -> Journal:
        """Read what is there; a line that was cut short by a kill is as if never written."""
        try:
            text = path.read_text("utf-8", errors="replace")
        except OSError:
            text = ""
        return cls(path, dict(_entries(text)))

    def get(self, name: str, measure: Callable[[], float]) -> float:
        """The number of that name; measured and written down if it is not known."""
        if name not in self.known:
            self.put(name, measure())
        return self.known[name]

    def put(self, name: str, number: float) -> None:
        """Write a number down. A folder that cannot be written is no error."""
        self.known[name] = number
        if self.path is None:
            return
        with suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            line = f"\n{json.dumps([name, number])}\n".encode()  # Cut lines end before it.
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _entries(text: str) -> Iterator[tuple[str, float]]:
    for line in text.splitlines():
        with suppress(ValueError, TypeError):
            name, number = json.loads(line)
            yield str(name), float(number)


def name_of(choice: Choice, options: QuantizeStatic) -> str:
    """A short name for a choice and how it is quantized: equal ones have equal names."""
    text = repr((sorted((name, str(p)) for name, p in choice.items()), options))
    return hashlib.sha256(text.encode()).hexdigest()[:24]
