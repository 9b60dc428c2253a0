"""Find passes by name: those of this package, those other packages install, those of plug-ins.

A pass called `fold-batch-norm` lives in a module called `fold_batch_norm`, somewhere below
`gcompile.passes`: adding the file is all it takes. Another package offers passes under the entry
point group `gcompile.passes`, each entry a pass class or a module. A module named by the user is
loaded with `load_plugin`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import entry_points
from types import ModuleType

from gcompile.errors import UnknownNameError, UsageError
from gcompile.passes.base import Numerics, Pass

_ENTRY_POINTS = "gcompile.passes"
_plugins: dict[str, type[Pass]] = {}
"""Passes of modules the user named. The one register that grows while the program runs."""


@dataclass(frozen=True)
class PassDescription:
    """What a list of passes shows.

    Attributes:
        summary: The first line of the class's documentation.
        options: Each option with its default, as a pipeline's text writes it.
    """

    name: str
    numerics: Numerics
    summary: str
    options: dict[str, str]


def known_passes() -> dict[str, type[Pass]]:
    """Every pass that can be named in a pipeline, by name, in alphabetical order."""
    found: dict[str, type[Pass]] = {}
    for module_name in _own_modules().values():
        found.update(_passes_in(importlib.import_module(module_name)))
    for entry in entry_points(group=_ENTRY_POINTS):
        found.update(_passes_of(entry.load(), entry.value))
    return dict(sorted((found | _plugins).items()))


def find_pass(name: str) -> type[Pass]:
    """Look one pass up by name; only its own module is imported.

    Raises:
        UnknownNameError: No pass has that name.
    """
    if name in _plugins:
        return _plugins[name]
    if module_name := _own_modules().get(name):
        found = _passes_in(importlib.import_module(module_name))
        if name in found:
            return found[name]
    known = known_passes()
    if name not in known:
        raise UnknownNameError("pass name", name, known)
    return known[name]


def load_plugin(module_name: str) -> dict[str, type[Pass]]:
    """Import a module and make its passes known: its `PASSES`, or every pass it defines.

    Raises:
        UsageError: The module cannot be imported, or holds no pass.
    """
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise UsageError(
            f"Plug-in {module_name!r} cannot be imported: {error}. "
            "Give the name of a Python module that is installed or on PYTHONPATH."
        ) from error
    found = _passes_of(module, module_name)
    _plugins.update(found)
    return found


def describe(pass_type: type[Pass], option_text: Iterable[tuple[str, str]]) -> PassDescription:
    """Describe a pass, its options written by the caller."""
    lines = (inspect.getdoc(pass_type) or "").strip().splitlines()
    summary = lines[0] if lines else ""
    return PassDescription(pass_type.name, pass_type.numerics, summary, dict(option_text))


def _own_modules() -> dict[str, str]:
    """Module by the name a pass in it would have. Nothing is imported but packages."""
    package = importlib.import_module("gcompile.passes")
    return {
        info.name.rpartition(".")[2].replace("_", "-"): info.name
        for info in pkgutil.walk_packages(package.__path__, "gcompile.passes.")
        if not info.ispkg
    }


def _passes_of(thing: object, where: str) -> dict[str, type[Pass]]:
    """Read an entry point or a plug-in: a pass class, or a module of passes."""
    if isinstance(thing, type) and issubclass(thing, Pass):
        return {thing.name: thing}
    found = _passes_in(thing) if isinstance(thing, ModuleType) else {}
    if not found:
        raise UsageError(
            f"{where!r} holds no pass. Define a subclass of gcompile.Pass there, or a list PASSES."
        )
    return found


def _passes_in(module: ModuleType) -> dict[str, type[Pass]]:
    listed = getattr(module, "PASSES", None)
    candidates = listed if listed is not None else _defined_in(module)
    return {kind.name: kind for kind in candidates if _is_usable(kind)}


def _defined_in(module: ModuleType) -> Iterator[type[Pass]]:
    for thing in vars(module).values():
        if isinstance(thing, type) and issubclass(thing, Pass) and _lives_in(thing, module):
            yield thing


def _lives_in(thing: type, module: ModuleType) -> bool:
    return thing.__module__ == module.__name__


def _is_usable(kind: type[Pass]) -> bool:
    """A pipeline's text can make one: it is complete, and no option must be given."""
    if inspect.isabstract(kind) or not hasattr(kind, "name"):
        return False
    return not any(f.default is MISSING and f.default_factory is MISSING for f in fields(kind))
