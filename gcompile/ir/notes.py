"""Decisions taken on the user's behalf while a model was read, kept with it for the report."""

from __future__ import annotations

import onnx_ir

_NOTE = "gcompile.note."


def add_note(model: onnx_ir.Model, sentence: str) -> None:
    """Keep a sentence for the report."""
    if sentence not in notes_of(model):
        model.metadata_props[f"{_NOTE}{len(notes_of(model))}"] = sentence


def notes_of(model: onnx_ir.Model) -> tuple[str, ...]:
    """The sentences kept, in the order they came."""
    found = {key: text for key, text in model.metadata_props.items() if key.startswith(_NOTE)}
    return tuple(found[key] for key in sorted(found))
