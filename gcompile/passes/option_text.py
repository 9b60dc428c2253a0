"""Options of passes as text: `bits=8`, `calibration=percentile`, `regions=(conv1,conv2)`."""

from __future__ import annotations

import json
import re
import types
import typing
from dataclasses import fields
from enum import Enum

from gcompile.errors import UsageError
from gcompile.passes.base import Pass

_BARE = re.compile(r"[A-Za-z0-9_.:/+-]+")


def make_pass(kind: type[Pass], texts: dict[str, str]) -> Pass:
    """Make a pass from the text of each option given.

    Raises:
        UsageError: An option is unknown, or its value does not fit its type; the message names
            the pass, the option and what would be valid.
    """
    types_ = typing.get_type_hints(kind)
    known = [field.name for field in fields(kind)]
    for option in texts:
        if option not in known:
            listed = f"Its options are: {', '.join(known)}." if known else "It has no options."
            raise UsageError(f"Pass {kind.name!r} has no option {option!r}. {listed}")
    values: dict[str, object] = {}
    for option, text in texts.items():
        try:
            values[option] = _read(types_[option], text)
        except ValueError as error:
            raise UsageError(f"Pass {kind.name!r}: {option}={text} is not {error}.") from None
    return kind(**values)


def options_of(pass_: Pass, *, with_defaults: bool) -> dict[str, str]:
    """Write the options of a pass, with or without those that have their default value."""
    plain = type(pass_)()
    return {
        field.name: write_option(getattr(pass_, field.name))
        for field in fields(pass_)
        if with_defaults or getattr(pass_, field.name) != getattr(plain, field.name)
    }


def write_option(value: object) -> str:
    """Write one value so that it reads back as itself."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "none"
    if isinstance(value, Enum):
        return write_option(value.value)
    if isinstance(value, tuple):
        return f"({','.join(write_option(item) for item in value)})"
    if isinstance(value, str) and not _BARE.fullmatch(value):
        return json.dumps(value)
    return str(value)


def split_list(text: str) -> list[str]:
    """Split at commas that are in no bracket and in no quotes."""
    parts, depth, quoted, start = [], 0, False, 0
    for index, char in enumerate(text):
        quoted ^= char == '"' and text[index - 1 : index] != "\\"
        depth += not quoted and char in "([{"
        depth -= not quoted and char in ")]}"
        if char == "," and not quoted and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    parts.append(text[start:])
    return [part.strip() for part in parts] if text.strip() else []


def _read(kind: object, text: str) -> object:
    """Read a value of the type; ValueError says in words what the type asks for."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _read_union(arguments, text)
    if origin is typing.Literal:
        return _one_of({write_option(choice): choice for choice in arguments}, text)
    if origin is tuple:
        return _read_tuple(arguments, text)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _one_of({write_option(member.value): member for member in kind}, text)
    if kind is bool:
        return _one_of({"true": True, "false": False}, text)
    if kind is int or kind is float:
        return _read_number(kind, text)
    if kind is str:
        return json.loads(text) if text.startswith('"') else text
    raise ValueError("an option that text can give")


def _read_number(kind: type[int] | type[float], text: str) -> int | float:
    try:
        return kind(text)
    except ValueError:
        raise ValueError("a whole number" if kind is int else "a number") from None


def _one_of(choices: dict[str, object], text: str) -> object:
    if text not in choices:
        raise ValueError(f"one of: {', '.join(choices)}")
    return choices[text]


def _read_union(kinds: tuple[object, ...], text: str) -> object:
    if type(None) in kinds and text == "none":
        return None
    wanted = []
    for kind in kinds:
        if kind is type(None):
            continue
        try:
            return _read(kind, text)
        except ValueError as error:
            wanted.append(str(error))
    raise ValueError(" or ".join([*wanted, "none"] if type(None) in kinds else wanted))


def _read_tuple(kinds: tuple[object, ...], text: str) -> tuple[object, ...]:
    items = split_list(text[1:-1]) if text.startswith("(") and text.endswith(")") else [text]
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], item) for item in items)
    if len(items) != len(kinds):
        raise ValueError(f"a list of {len(kinds)} values in parentheses")
    return tuple(_read(kind, item) for kind, item in zip(kinds, items, strict=True))
