"""A model as launches on values whose places in memory are not decided yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from numpy.typing import NDArray

from gcompile.backends.cuda.kernel import Kernel, KernelSequence
from gcompile.errors import CompileError


class Role(StrEnum):
    """Who owns the memory of a value."""

    INPUT = "input"
    OUTPUT = "output"
    WEIGHT = "weight"
    ARENA = "arena"


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor in device memory; equal only to itself.

    Attributes:
        index: Which input, output or weight it is; 0 in the arena.
    """

    bytes: int
    role: Role = Role.ARENA
    index: int = 0


@dataclass(frozen=True)
class Launch:
    """One kernel on values, in the order of its arguments."""

    kernel: Kernel
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Copy:
    """All bytes of one value go to another."""

    target: Value
    source: Value


@dataclass(frozen=True)
class Zero:
    """All bytes of a value become zero."""

    target: Value


Action = Launch | Copy | Zero


@dataclass
class Program:
    """What one inference does, in order.

    Attributes:
        weights: The array of each weight.
    """

    inputs: list[Value] = field(default_factory=list)
    outputs: list[Value] = field(default_factory=list)
    weights: list[NDArray[Any]] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)

    @property
    def kernels(self) -> list[Kernel]:
        """The distinct kernels, in order of first use."""
        launched = (action.kernel for action in self.actions if isinstance(action, Launch))
        return list({kernel.name: kernel for kernel in launched}.values())

    def add_weight(self, array: NDArray[Any]) -> Value:
        """Keep an array in device memory."""
        self.weights.append(array)
        return Value(array.nbytes, Role.WEIGHT, len(self.weights) - 1)

    def launch(self, kernel: Kernel, values: Sequence[Value]) -> None:
        """Launch a kernel.

        Raises:
            CompileError: A value is not as large as the kernel takes it to be.
        """
        if len(values) != len(kernel.arguments):
            raise CompileError(
                f"The kernel {kernel.name} takes {len(kernel.arguments)} arguments and was given "
                f"{len(values)}; please report this model as a bug."
            )
        self.actions.append(Launch(kernel, tuple(values)))

    def run_sequence(self, sequence: KernelSequence, operands: dict[str, Value]) -> None:
        """Launch the kernels of a sequence on operands by name; scratch is made here."""
        own = {name: Value(size) for name, size in sequence.scratch.items()}
        self.actions += [Zero(own[name]) for name in sorted(sequence.zeroed)]
        known = operands | own
        for step in sequence.steps:
            self.launch(step.kernel, [known[name] for name in step.operands])
