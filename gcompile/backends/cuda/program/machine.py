"""The state of blocks of threads in the interpreter, and how statements read and change it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from gcompile.backends.cuda.program.evaluate import evaluate, uniform
from gcompile.backends.cuda.program.groups import Groups
from gcompile.backends.cuda.program.memory import AccessError, GlobalMemory, SharedMemory
from gcompile.backends.cuda.program.operations import Array
from gcompile.backends.cuda.program.program import Program
from gcompile.backends.cuda.program.scalar import Scalar

Copy = tuple[Array, Array, Array, Array]
"""Block, address, warp and words of a copy under way."""


@dataclass
class Machine:
    """The state of some blocks. Arrays over threads have the shape (blocks, threads).

    Attributes:
        mask: The threads that run the statement.
        open_group: Copies that were started since the last commit.
        groups: Those that were committed and may be under way.
        multiplications: Tensor-core instructions that were executed.
    """

    shape: tuple[int, int]
    memory: GlobalMemory
    shared: SharedMemory
    variables: dict[str, Array]
    mask: Array
    registers: dict[str, Array] = field(default_factory=dict)
    open_group: list[Copy] = field(default_factory=list)
    groups: list[list[Copy]] = field(default_factory=list)
    multiplications: int = 0
    groups_running: Groups = field(default_factory=lambda: Groups())

    @classmethod
    def start(cls, program: Program, blocks: Array, memory: GlobalMemory) -> Machine:
        """Threads of some blocks of a program, before its first statement."""
        shape = (len(blocks), program.threads)
        thread = np.arange(program.threads)[None, :]
        x, y, _ = program.grid
        variables = {
            "thread": thread,
            "lane": thread % 32,
            "warp": thread // 32,
            "block_x": (blocks % x)[:, None],
            "block_y": (blocks // x % y)[:, None],
            "block_z": (blocks // (x * y))[:, None],
        }
        shared = SharedMemory(len(blocks), program.shared_bytes)
        return cls(shape, memory, shared, variables, np.ones(shape, bool))

    def value(self, expression: Scalar) -> Array:
        """What an expression is, in all threads or one for all."""
        return evaluate(expression, self.variables, self._read)

    def of_warps(self, registers: Sequence[Scalar]) -> Array:
        """The values of some registers, as (registers, warps, 32)."""
        values = [np.broadcast_to(self.value(r), self.shape) for r in registers]
        return np.stack(values).reshape(len(registers), -1, 32)

    def set(self, target: Scalar, values: Array) -> None:
        """Assign to a register of the threads that run."""
        array = self.registers[str(target.value)]
        self.groups_running.need_done(str(target.value))
        self.groups_running.touched.add(str(target.value))
        index = uniform(self.value(target.operands[0]))
        array[index] = np.where(self.mask, values, array[index])

    def set_active(self, registers: Sequence[Scalar], values: Array) -> None:
        """Assign column i of (active threads, registers) to register i."""
        for i, target in enumerate(registers):
            array = self.registers[str(target.value)]
            array[uniform(self.value(target.operands[0]))][self.mask] = values[:, i]

    def threads(self, *expressions: Scalar) -> tuple[Array, ...]:
        """Block and warp of the active threads in order, then each expression's values there."""
        block, thread = np.nonzero(self.mask)
        values = (np.broadcast_to(self.value(e), self.shape)[block, thread] for e in expressions)
        return block, thread // 32, *values

    @contextmanager
    def only(self, condition: Array) -> Iterator[None]:
        """Run what is within in the threads for which the condition holds."""
        outer = self.mask
        self.mask = outer & np.broadcast_to(condition, self.shape)
        yield
        self.mask = outer

    def all_threads(self, what: str) -> None:
        """Check that no thread is left out.

        Raises:
            AccessError: One is.
        """
        if not self.mask.all():
            raise AccessError(f"{what} is not reached by all threads.")

    def _read(self, name: str, index: int) -> Array:
        self.groups_running.need_done(name)
        return np.asarray(self.registers[name][index])
