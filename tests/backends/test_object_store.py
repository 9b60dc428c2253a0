"""The store gives back what was put in, or nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gcompile.backends.object_store import ObjectStore

_SEVERAL_AT_ONCE = """
import sys
from pathlib import Path
from gcompile.backends.object_store import ObjectStore
store = ObjectStore(Path(sys.argv[1]), limit_bytes=40_000)
for round in range(40):
    for key in range(20):
        content = bytes([key]) * 5_000
        found = store.get(f"key{key}")
        assert found in (None, content), "an entry that nobody wrote"
        store.put(f"key{key}", content)
    store.trim()
"""


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    """An empty store whose folder does not exist yet."""
    return ObjectStore(tmp_path / "cache" / "kernels", limit_bytes=1000)


def test_what_was_put_is_found_again_and_nothing_else(store: ObjectStore) -> None:
    assert store.get("a") is None
    store.put("a", b"code")
    store.put("empty", b"")
    assert store.get("a") == b"code"
    assert store.get("empty") == b""
    assert store.get("b") is None


def test_the_folder_is_the_users_own(store: ObjectStore) -> None:
    store.put("a", b"code")
    assert store.folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("damage", [b"", b"short", bytes(40), hashlib.sha256(b"code").digest()])
def test_a_damaged_entry_is_not_given_out_and_is_removed(
    store: ObjectStore, damage: bytes
) -> None:
    store.put("a", b"code")
    (store.folder / "a").write_bytes(damage)
    assert store.get("a") is None
    assert not (store.folder / "a").exists()


def test_one_changed_bit_is_noticed(store: ObjectStore) -> None:
    store.put("a", b"code")
    entry = bytearray((store.folder / "a").read_bytes())
    entry[-1] ^= 1
    (store.folder / "a").write_bytes(entry)
    assert store.get("a") is None


def test_an_entry_under_the_name_of_another_is_not_given_out(store: ObjectStore) -> None:
    store.put("a", b"code")
    (store.folder / "a").rename(store.folder / "b")
    assert store.get("b") is None


def test_trimming_removes_what_was_used_least_recently(store: ObjectStore) -> None:
    for age, key in enumerate("abcd"):
        store.put(key, bytes(300))
        os.utime(store.folder / key, (age, age))
    assert store.get("a") is not None, "using an entry keeps it"
    store.trim()
    assert [key for key in "abcd" if store.get(key)] == ["a", "d"]


def test_trimming_leaves_a_folder_within_its_limit_alone(store: ObjectStore) -> None:
    store.trim()
    store.put("a", bytes(900))
    store.trim()
    assert store.get("a") == bytes(900)


def test_what_a_killed_process_left_is_trimmed_too(store: ObjectStore) -> None:
    store.put("a", b"code")
    left = store.folder / ".half-written"
    left.write_bytes(bytes(2000))
    os.utime(left, (0, 0))
    store.trim()
    assert not left.exists()
    assert store.get("a") == b"code"


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    store = ObjectStore(tmp_path / "file" / "kernels")
    store.put("a", b"code")
    store.trim()
    assert store.get("a") is None


def test_several_processes_may_use_one_folder(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _SEVERAL_AT_ONCE, str(tmp_path)]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert not list(tmp_path.glob(".*")), "a temporary file was left"


def test_the_users_store_follows_the_xdg_folders(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert _folder_of_user() == tmp_path / "xdg" / "gcompile" / "kernels"
    monkeypatch.setenv("HOME", str(tmp_path))
    for useless in ("", "relative/path"):
        monkeypatch.setenv("XDG_CACHE_HOME", useless)
        assert _folder_of_user() == tmp_path / ".cache" / "gcompile" / "kernels"


def _folder_of_user() -> Path | None:
    store = ObjectStore.of_user()
    return store.folder if store else None
