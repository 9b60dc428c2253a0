"""Values of untrusted JSON, each checked before it is believed.

Whatever is wrong is refused in one sentence with a remedy.
"""

from __future__ import annotations

import re

from gcompile.errors import ArtifactError

Scalar = str | int | float | bool | None

REMEDY = "Compile the model again, or copy the artefact folder again as it was written."

_MAX_TEXT = 1000
_MAX_ENTRIES = 10_000
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")
_FLAG = re.compile(r"[a-z0-9_]{1,40}")


def file_name(data: object) -> str:
    """A plain file name, which cannot lead out of its folder."""
    name = text(data, "files")
    if not _FILE_NAME.fullmatch(name):
        raise refused(f"has the file name {name!r:.60}, which is not a plain name in its folder")
    return name


def flag(data: object) -> str:
    """A CPU flag as Linux spells it."""
    flag = text(data, "isa_required")
    if not _FLAG.fullmatch(flag):
        raise refused(f"has {flag!r:.60} in isa_required, which is not a CPU flag")
    return flag


def mapping(data: object, what: str) -> dict[str, object]:
    """A JSON object."""
    if not isinstance(data, dict) or len(data) > _MAX_ENTRIES:
        raise refused(f"has something else where {what} must be a JSON object")
    return data


def items(data: object, what: str) -> list[object]:
    """A JSON list."""
    if not isinstance(data, list) or len(data) > _MAX_ENTRIES:
        raise refused(f"has something else where {what} must be a list")
    return data


def text(data: object, what: str) -> str:
    """A short text that is not empty."""
    if not isinstance(data, str) or not 0 < len(data) <= _MAX_TEXT or "\0" in data:
        raise refused(f"has something else where {what} must be a short text")
    return data


def whole(data: object, what: str, low: int, high: int) -> int:
    """A whole number between two bounds."""
    if not isinstance(data, int) or isinstance(data, bool) or not low <= data <= high:
        raise refused(f"has something else where {what} must be a whole number {low} to {high}")
    return data


def number(data: object, what: str, high: float) -> float:
    """A finite number from 0 to a bound."""
    if not isinstance(data, int | float) or isinstance(data, bool) or not 0 <= data <= high:
        raise refused(f"has something else where {what} must be a number 0 to {high:g}")
    return float(data)


def truth(data: object, what: str) -> bool:
    """True or false."""
    if not isinstance(data, bool):
        raise refused(f"has something else where {what} must be true or false")
    return data


def scalar(data: object) -> Scalar:
    """A plain value."""
    if data is not None and not isinstance(data, str | int | float):
        raise refused("has something else where verification must hold plain values")
    return data


def exact_keys(entries: dict[str, object], expected: list[str], what: str) -> None:
    """Refuse keys that are missing or unknown."""
    unknown, missing = sorted(set(entries) - set(expected)), sorted(set(expected) - set(entries))
    if unknown:
        raise refused(f"has the unknown key {unknown[0]!r:.60} in {what}")
    if missing:
        raise refused(f"lacks the key {missing[0]!r} in {what}")


def unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """For `json.loads`: an object whose keys differ."""
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key appears twice")
    return result


def no_constant(name: str) -> float:
    """For `json.loads`: no NaN and no Infinity."""
    raise ValueError(f"{name} is not JSON")


def refused(problem: str) -> ArtifactError:
    """The error for what a manifest must not say."""
    return ArtifactError(f"The artefact's manifest {problem}. {REMEDY}")
