"""Passes and pipelines by name and as text.

    fold-batch-norm,quantize-static{bits=8,calibration=percentile},[fold-constants,fold-scale]*4

A group in brackets repeats until nothing changes or its number is spent; `label:[…]` names it in
reports. `canonicalize`, `fuse` and `exact` stand for the pipelines of those names.
"""

from __future__ import annotations

import difflib
import re

from gcompile.errors import UnknownNameError, UsageError
from gcompile.passes.base import Pass, Pipeline
from gcompile.passes.discovery import (
    PassDescription,
    describe,
    find_pass,
    known_passes,
    load_plugin,
)
from gcompile.passes.option_text import make_pass, options_of, split_list
from gcompile.passes.pipelines import canonicalize_pipeline, exact_pipeline, fuse_pipeline

__all__ = [
    "PassDescription",
    "describe_passes",
    "exact_pipeline",
    "find_pass",
    "format_pipeline",
    "known_passes",
    "load_plugin",
    "parse_pipeline",
]

_NAMED = {
    pipeline.name: pipeline
    for pipeline in (canonicalize_pipeline(), fuse_pipeline(), exact_pipeline())
}
_GROUP = re.compile(r"(?:(?P<label>[\w-]+):)?\[(?P<body>.*)\](?:\*(?P<repeat>\d+))?", re.DOTALL)
_PASS = re.compile(r"(?P<name>[\w-]+)(?:\{(?P<options>.*)\})?", re.DOTALL)


def parse_pipeline(text: str, name: str = "custom") -> Pipeline:
    """Read a pipeline from text.

    Raises:
        UnknownNameError: A pass is not known; the message has the closest known name.
        UsageError: The text is not a pipeline, or an option does not fit.
    """
    items = [_parse_item(item) for item in _split(text)]
    if len(items) == 1 and isinstance(items[0], Pipeline):
        return items[0]
    return Pipeline(name, tuple(items))


def format_pipeline(pipeline: Pipeline) -> str:
    """Write a pipeline so that `parse_pipeline` reads back the same passes and options."""
    if _NAMED.get(pipeline.name) == pipeline:
        return pipeline.name
    return _body(pipeline) if pipeline.repeat == 1 else _format_group(pipeline)


def describe_passes() -> list[PassDescription]:
    """Describe every known pass, in alphabetical order."""
    return [
        describe(kind, options_of(kind(), with_defaults=True).items())
        for kind in known_passes().values()
    ]


def _split(text: str) -> list[str]:
    items = split_list(text)
    if not items or not all(items):
        raise UsageError(f"{text!r} is not a pipeline: name passes with commas between them.")
    return items


def _parse_item(text: str) -> Pass | Pipeline:
    if text in _NAMED:
        return _NAMED[text]
    if group := _GROUP.fullmatch(text):
        passes = tuple(_parse_item(item) for item in _split(group["body"]))
        repeat = int(group["repeat"] or 1)
        if repeat < 1:
            raise UsageError(f"{text!r} repeats a group {repeat} times: once is the least.")
        unnamed = Pipeline("", passes, repeat)
        return Pipeline(group["label"] or _format_group(unnamed), passes, repeat)
    if single := _PASS.fullmatch(text):
        return make_pass(_look_up(single["name"]), _parse_options(single["options"] or ""))
    raise UsageError(
        f"{text!r} is neither a pass, `name` or `name{{option=value}}`, nor a group, `[a,b]*4`."
    )


def _parse_options(text: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in split_list(text):
        option, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"Option {item!r} has no value: write {item}=value.")
        options[option.strip()] = value.strip()
    return options


def _look_up(name: str) -> type[Pass]:
    try:
        return find_pass(name)
    except UnknownNameError as error:
        close = difflib.get_close_matches(name, [*known_passes(), *_NAMED], n=1)
        if close:
            error.args = (f"{error} Did you mean {close[0]!r}?",)
        raise


def _body(pipeline: Pipeline) -> str:
    return ",".join(_format_item(item) for item in pipeline.passes)


def _format_item(item: Pass | Pipeline) -> str:
    if isinstance(item, Pass):
        options = options_of(item, with_defaults=False)
        listed = ",".join(f"{option}={text}" for option, text in options.items())
        return f"{item.name}{{{listed}}}" if listed else item.name
    if _NAMED.get(item.name) == item:
        return item.name
    text = _format_group(item)
    return text if item.name == text else f"{item.name}:{text}"


def _format_group(pipeline: Pipeline) -> str:
    repeat = f"*{pipeline.repeat}" if pipeline.repeat != 1 else ""
    return f"[{_body(pipeline)}]{repeat}"
