"""Say why PyTorch could not export a module: where it was, and what to change there."""

from __future__ import annotations

import re
import traceback
from collections.abc import Iterator, Mapping
from types import FrameType

from gcompile.errors import ExportError
from gcompile.ir.place import Place, is_inside_torch, short_path

_BY_VALUE = "GuardOnDataDependentSymNode"
_NO_FUNCTION = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.]+)'")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def depends_on_values(error: BaseException) -> bool:
    """Whether the module decides by the values of its tensors: no trace could be right then."""
    return any(kind.__name__ == _BY_VALUE for e in _chain(error) for kind in type(e).__mro__)


def missing_operator(error: BaseException) -> str | None:
    """The operator, such as `aten.fft_fft`, that has no ONNX form, if that is what is wrong."""
    found = (_NO_FUNCTION.search(str(e)) for e in _chain(error))
    return next((match[1].replace("::", ".") for match in found if match), None)


def explain(
    error: BaseException, modules: Mapping[int, str], operator_place: Place | None = None
) -> ExportError:
    """One sentence on what went wrong and one on the remedy.

    Args:
        error: What PyTorch raised.
        modules: The path of every submodule, by its `id`.
        operator_place: Where the operator stands that has no ONNX form.
    """
    place = _place_of_frames(error, modules)
    if depends_on_values(error):
        where = place or "The module"
        return ExportError(
            f"{_capital(str(where))} decides by the values of a tensor, which one graph for all "
            "inputs cannot. Use torch.where or torch.cond there."
        )
    operator = missing_operator(error)
    if operator is not None:
        where = f"at {operator_place}" if operator_place else "in the module"
        return ExportError(
            f"The operator {operator} {where} has no ONNX form. Write it there with other "
            "operators, or compute it outside of the module."
        )
    where = f" at {place}" if place else ""
    return ExportError(
        f"PyTorch cannot export the module{where}: {_first_sentence(error)} Change that line, or "
        "export the module to ONNX in another way and compile the file."
    )


def _place_of_frames(error: BaseException, modules: Mapping[int, str]) -> Place | None:
    """The innermost line outside PyTorch, and the submodule whose `forward` was running."""
    frames = [
        (frame, line)
        for e in _chain(error)
        for frame, line in traceback.walk_tb(e.__traceback__)
        if _module_of(frame, modules) is not None
    ]
    if not frames:
        return None
    own = [(f, line) for f, line in frames if not is_inside_torch(f.f_code.co_filename)]
    frame, line = (own or frames)[-1]
    return Place(
        _module_of(frame, modules) or "", f"{short_path(frame.f_code.co_filename)}:{line}"
    )


def _module_of(frame: FrameType, modules: Mapping[int, str]) -> str | None:
    """The path of the module whose method the frame is: that of its first argument."""
    first = frame.f_code.co_varnames[:1]
    return modules.get(id(frame.f_locals.get(first[0]))) if first else None


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _first_sentence(error: BaseException) -> str:
    root = list(_chain(error))[-1]
    lines = [line.strip() for line in _ANSI.sub("", str(root)).splitlines() if line.strip()]
    text = lines[0] if lines else type(root).__name__
    return text.rstrip(".:") + "."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
