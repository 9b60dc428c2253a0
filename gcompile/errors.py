"""Every error gcompile raises on purpose. Catch `GcompileError` to catch them all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar


class GcompileError(Exception):
    """Base class. The message says what is wrong and what to do about it."""

    exit_code: ClassVar[int] = 3
    """What the command line returns: 2 usage, 3 load or compile, 4 run, measure or verify."""


class UsageError(GcompileError):
    """An option, a configuration or a data file cannot be used as given."""

    exit_code = 2


class UnknownNameError(UsageError):
    """A pass, target, metric or backend name is not registered."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"Unknown {kind} {name!r}. Known {kind}s: {', '.join(sorted(known))}.")


class InvalidModelError(GcompileError):
    """The model cannot be read, or breaks a rule of the graph."""


class ExportError(GcompileError):
    """A PyTorch module cannot be turned into a graph."""


@dataclass(frozen=True)
class UnsupportedNode:
    """A node that nothing here can compile.

    Attributes:
        place: Where in a PyTorch module it comes from, if that is known.
        reason: Why it cannot be compiled.
        suggestion: What to do about it.
    """

    name: str
    operator: str
    reason: str
    suggestion: str
    place: str = ""

    def __str__(self) -> str:
        """The node's name and where it comes from."""
        return f"{self.name} at {self.place}" if self.place else self.name


class UnsupportedOperatorsError(GcompileError):
    """Nodes that nothing here can compile; every one is listed."""

    def __init__(self, nodes: Iterable[UnsupportedNode]) -> None:
        self.nodes = tuple(nodes)
        alike: dict[tuple[str, str, str], list[str]] = {}
        for node in self.nodes:
            alike.setdefault((node.operator, node.reason, node.suggestion), []).append(str(node))
        listed = "; ".join(
            f"{operator} (nodes: {', '.join(names)}), because {reason}: {suggestion}"
            for (operator, reason, suggestion), names in sorted(alike.items())
        )
        super().__init__(f"The model uses operators gcompile cannot compile: {listed}.")

    @property
    def nodes_by_operator(self) -> dict[str, list[str]]:
        """The nodes of each operator, each with where it comes from."""
        found: dict[str, list[str]] = {}
        for node in self.nodes:
            found.setdefault(node.operator, []).append(str(node))
        return found


class PassError(GcompileError):
    """A pass refused a model, or broke its own contract."""


class TargetError(GcompileError):
    """A target's description is wrong or lacks a number that is needed."""


class BackendUnavailableError(GcompileError):
    """The backend's own library is missing or does not fit this machine."""


class CompileError(GcompileError):
    """Code generation failed."""


class ArtifactError(GcompileError):
    """An artefact is damaged, was changed, or does not fit this machine."""

    exit_code = 4


class RunError(GcompileError):
    """An artefact was given inputs it cannot run on, or failed while running."""

    exit_code = 4


class VerificationError(GcompileError):
    """The compiled code disagrees with the reference by more than its passes allow."""

    exit_code = 4


class MeterError(GcompileError):
    """Nothing can measure here, or the readings cannot be used; an estimate never stands in."""

    exit_code = 4


class ProviderError(GcompileError):
    """A service that was asked for a number did not give it."""

    exit_code = 4
