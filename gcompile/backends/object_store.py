"""A folder of byte strings with the keys they were computed from.

Several processes may use one folder at the same time: an entry appears under its name whole or not
at all, and equal keys have equal contents, so it does not matter whose entry stays. Each entry
starts with a hash of its key and content: one that was cut short, damaged or renamed is found and
computed again. Whoever may write into the folder decides what code is linked, so it is the user's
own. A folder that cannot be written is no error; nothing is kept then.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_DIGEST_BYTES = 32
_KEPT_SHARE = 0.8
"""What trimming leaves of the limit, so that it is not needed again at once."""


@dataclass(frozen=True)
class ObjectStore:
    """The store in one folder.

    Attributes:
        limit_bytes: `trim` removes what was used least recently when there is more.
    """

    folder: Path
    limit_bytes: int = 512 << 20

    @classmethod
    def of_user(cls) -> ObjectStore | None:
        """The store below $XDG_CACHE_HOME or ~/.cache; None where the user has no home."""
        caches = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not caches.is_absolute():
            try:
                caches = Path.home() / ".cache"
            except RuntimeError:
                return None
        return cls(caches / "gcompile" / "kernels")

    def get(self, key: str) -> bytes | None:
        """The content stored under a key, or None; a damaged entry is removed.

        Args:
            key: A text that is a file name, such as a hash in hexadecimal digits.
        """
        path = self.folder / key
        try:
            entry = path.read_bytes()
        except OSError:
            return None
        digest, content = entry[:_DIGEST_BYTES], entry[_DIGEST_BYTES:]
        if digest != _digest(key, content):
            with suppress(OSError):
                path.unlink()
            return None
        with suppress(OSError):
            os.utime(path)  # `trim` goes by the time of last use.
        return content

    def put(self, key: str, content: bytes) -> None:
        """Store a content."""
        with suppress(OSError):
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self.folder, prefix=".")
            try:
                with open(descriptor, "wb") as file:
                    file.write(_digest(key, content) + content)
                os.replace(name, self.folder / key)
            except BaseException:
                os.unlink(name)
                raise

    def trim(self) -> None:
        """Remove what was used least recently, if the folder holds more than its limit."""
        entries = sorted(self._entries())
        excess = sum(size for _, size, _ in entries) - self.limit_bytes
        if excess <= 0:
            return
        excess += int(self.limit_bytes * (1 - _KEPT_SHARE))
        for _, size, path in entries:
            if excess <= 0:
                break
            with suppress(OSError):
                path.unlink()
            excess -= size

    def _entries(self) -> Iterator[tuple[int, int, Path]]:
        """When each file was last used, its size and its path; others may remove files."""
        for path in self.folder.glob("*"):
            with suppress(OSError):
                status = path.stat()
                if stat.S_ISREG(status.st_mode):
                    yield status.st_mtime_ns, status.st_size, path


def _digest(key: str, content: bytes) -> bytes:
    return hashlib.sha256(key.encode() + b"\0" + content).digest()
