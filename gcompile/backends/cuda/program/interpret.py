"""Execute a tile program in numpy: all threads of all blocks at once, statement by statement.

It evaluates the very expressions that are printed as CUDA, moves the bytes that the copies move,
and gives tensor-core instructions the meaning that the PTX manual gives them. What a device would
get wrong silently (an address out of range or not aligned, a missing barrier or wait, an element
written twice) raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from gcompile.backends.cuda.program.evaluate import evaluate, uniform
from gcompile.backends.cuda.program.groups import Groups
from gcompile.backends.cuda.program.memory import AccessError, GlobalMemory, SharedMemory
from gcompile.backends.cuda.program.program import (
    Barrier,
    BeginGroup,
    Commit,
    CommitGroup,
    CopyAsync,
    Exchange,
    For,
    If,
    Let,
    LoadGlobal,
    LoadMatrix,
    LoadShared,
    LoadWords,
    Multiply,
    MultiplyGroup,
    Program,
    Registers,
    RoundToTf32,
    Scope,
    Set,
    ShowToGroups,
    Statement,
    StoreGlobal,
    StoreShared,
    Wait,
    WaitGroup,
    WarpBarrier,
)
from gcompile.backends.cuda.program.registers import (
    NUMPY,
    empty_registers,
    from_words,
    to_words,
    wide,
)
from gcompile.backends.cuda.program.scalar import Array, Scalar
from gcompile.backends.cuda.program.tensor_core import (
    described_chunks,
    load_matrix,
    multiply,
    multiply_group,
    round_to_tf32,
)

_AT_ONCE_BYTES = 64 << 20
"""Shared memory of the blocks that run together, which bounds the interpreter's own memory."""

_Copy = tuple[Array, Array, Array, Array]
"""Block, address, warp and words of a copy under way."""


@dataclass(frozen=True)
class Run:
    """What was seen on the way.

    Attributes:
        conflicts: Extra turns of the banks of shared memory, by kind of access.
        multiplications: Tensor-core instructions that were executed, over all warps.
    """

    conflicts: Mapping[str, int]
    multiplications: int


def interpret(program: Program, arrays: Sequence[Array]) -> Run:
    """Execute the program; written buffers are changed in place.

    Args:
        program: What to execute.
        arrays: One contiguous array for each buffer, of its element count and type (bfloat16 also
            as uint16).

    Raises:
        AccessError: The program touches memory that it may not touch, or not yet.
        ArithmeticError: An integer expression or sum overflows.
        ValueError: An array does not fit its buffer.
    """
    for buffer, array in zip(program.buffers, arrays, strict=True):
        if array.size != buffer.elements or array.itemsize != buffer.element_bytes:
            raise ValueError(f"{buffer.name} has {buffer.elements} elements of {buffer.storage}.")
    memory = GlobalMemory({b.name: a for b, a in zip(program.buffers, arrays, strict=True)})
    blocks = np.arange(program.grid[0] * program.grid[1] * program.grid[2])
    at_once = max(1, _AT_ONCE_BYTES // (16 * max(program.shared_bytes, 1024)))
    if program.blocks_differ:
        at_once = 1
    conflicts: dict[str, int] = {}
    multiplications = 0
    for start in range(0, len(blocks), at_once):
        machine = _Machine.start(program, blocks[start : start + at_once], memory)
        machine.run(program.body)
        multiplications += machine.multiplications
        for kind, count in machine.shared.conflicts.items():
            conflicts[kind] = conflicts.get(kind, 0) + count
    return Run(conflicts, multiplications)


@dataclass
class _Machine:
    """The state of some blocks. Arrays over threads have the shape (blocks, threads)."""

    shape: tuple[int, int]
    memory: GlobalMemory
    shared: SharedMemory
    variables: dict[str, Array]
    mask: Array
    registers: dict[str, Array] = field(default_factory=dict)
    open_group: list[_Copy] = field(default_factory=list)
    groups: list[list[_Copy]] = field(default_factory=list)
    multiplications: int = 0
    groups_running: Groups = field(default_factory=lambda: Groups())

    @classmethod
    def start(cls, program: Program, blocks: Array, memory: GlobalMemory) -> _Machine:
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

    def run(self, body: Sequence[Statement]) -> None:
        for statement in body:
            self._execute(statement)

    def value(self, expression: Scalar) -> Array:
        return evaluate(expression, self.variables, self._read)

    def _read(self, name: str, index: int) -> Array:
        self.groups_running.need_done(name)
        return np.asarray(self.registers[name][index])

    def _execute(self, statement: Statement) -> None:
        match statement:
            case Let(name, value):
                self.variables[name] = self.value(value)
            case Registers(name, dtype, count, zero):
                self.registers[name] = empty_registers(dtype, (count, *self.shape), zero)
                self.groups_running.touched.add(name)
            case Set(target, value):
                self._set(target, self.value(value))
            case For(counter, count, body):
                for i in range(count if isinstance(count, int) else uniform(self.value(count))):
                    self.variables[counter] = np.asarray(i)
                    self.run(body)
            case Scope(body):
                self.run(body)
            case If(condition, body):
                with self._only(self.value(condition)):
                    self.run(body)
            case Barrier():
                self._all_threads("A barrier")
                self.shared.barrier()
            case WarpBarrier():
                self._all_threads("A barrier")
                self.shared.warp_barrier()
            case Exchange(target, value, distance):
                self._all_threads("An exchange")
                lanes = np.broadcast_to(self.value(value), self.shape).reshape(-1, 32)
                self._set(target, lanes[:, np.arange(32) ^ distance].reshape(self.shape))
            case Commit():
                self._all_threads("A commit")
                self.groups.append(self.open_group)
                self.open_group = []
            case Wait(pending):
                self._wait(pending)
            case ShowToGroups() | BeginGroup() | CommitGroup() | WaitGroup() | MultiplyGroup():
                self._all_threads("An instruction of a group of warps")
                self._group(statement)
            case LoadMatrix() | Multiply():
                self._all_threads("A warp's instruction")
                self._tensor_core(statement)
            case RoundToTf32(target):
                self._set(target, round_to_tf32(self.value(target)))
            case CopyAsync():
                self._copy_async(statement)
            case StoreShared() | LoadShared():
                self._access_shared(statement)
            case LoadGlobal():
                self._load_global(statement)
            case LoadWords(registers, buffer, index):
                _, _, at = self._threads(index)
                count = 4 * len(registers) // buffer.element_bytes
                read = np.ascontiguousarray(self.memory.read(buffer, at, count))
                self._set_active(registers, read.view(np.uint32))
            case StoreGlobal():
                self._store_global(statement)

    @contextmanager
    def _only(self, condition: Array) -> Iterator[None]:
        outer = self.mask
        self.mask = outer & np.broadcast_to(condition, self.shape)
        yield
        self.mask = outer

    def _all_threads(self, what: str) -> None:
        if not self.mask.all():
            raise AccessError(f"{what} is not reached by all threads.")

    def _set(self, target: Scalar, values: Array) -> None:
        array = self.registers[str(target.value)]
        self.groups_running.need_done(str(target.value))
        self.groups_running.touched.add(str(target.value))
        index = uniform(self.value(target.operands[0]))
        array[index] = np.where(self.mask, values, array[index])

    def _threads(self, *expressions: Scalar) -> tuple[Array, ...]:
        """Block and warp of the active threads in order, then each expression's values there."""
        block, thread = np.nonzero(self.mask)
        values = (np.broadcast_to(self.value(e), self.shape)[block, thread] for e in expressions)
        return block, thread // 32, *values

    def _set_active(self, registers: Sequence[Scalar], values: Array) -> None:
        """Assign column i of (active threads, registers) to register i."""
        for i, target in enumerate(registers):
            array = self.registers[str(target.value)]
            array[uniform(self.value(target.operands[0]))][self.mask] = values[:, i]

    def _copy_async(self, copy: CopyAsync) -> None:
        block, warp, address, index = self._threads(copy.address, copy.index)
        self.shared.start_copy(block, address, warp, copy.size)
        kept = np.ones(len(block), bool)
        if copy.condition is not None:
            kept = self._threads(copy.condition)[2].astype(bool)
        count = copy.size // copy.buffer.element_bytes
        values = np.zeros((len(block), copy.size), np.uint8)
        values[kept] = self.memory.read(copy.buffer, index[kept], count)
        self.open_group.append((block, address, warp, values.view(np.uint32)))

    def _wait(self, pending: int) -> None:
        self._all_threads("A wait")
        arrived = max(0, len(self.groups) - pending)
        for group in self.groups[:arrived]:
            for block, address, warp, words in group:
                self.shared.finish_copy(block, address, warp, words)
        self.groups = self.groups[arrived:]

    def _tensor_core(self, statement: LoadMatrix | Multiply) -> None:
        if isinstance(statement, LoadMatrix):
            count = len(statement.registers)
            block, warp, address = self._threads(statement.address)
            used = np.tile(np.arange(32) < 8 * count, len(block) // 32)
            words = self.shared.read("ldmatrix", block[used], address[used], warp[used], 16)
            rows = words.view(np.uint8).reshape(-1, count, 8, 16).swapaxes(0, 1)
            loaded = load_matrix(rows, statement.transposed)
            for target, values in zip(statement.registers, loaded, strict=True):
                self._set(target, values.reshape(self.shape))
            return
        sums, left, right = (
            np.stack([np.broadcast_to(self.value(r), self.shape) for r in group]).reshape(
                len(group), -1, 32
            )
            for group in (statement.sums, statement.left, statement.right)
        )
        instruction = statement.instruction
        elements = instruction.left, instruction.right
        for piece in instruction.pieces:
            read = left[list(piece.left)], right[list(piece.right)], sums[list(piece.sums)]
            sums[list(piece.sums)] = multiply(*read, elements, instruction.shape)
            self.multiplications += left.shape[1]
        for target, values in zip(statement.sums, sums, strict=True):
            self._set(target, values.reshape(self.shape))

    def _group(self, statement: Statement) -> None:
        match statement:
            case ShowToGroups():
                self.shared.show_to_groups()
            case BeginGroup():
                self.groups_running.touched.clear()
            case CommitGroup():
                self.groups_running.commit()
            case WaitGroup(pending):
                for read in self.groups_running.wait(pending):
                    self.shared.finish_group(*read)
            case MultiplyGroup():
                self._multiply_group(statement)

    def _multiply_group(self, product: MultiplyGroup) -> None:
        """The sums are right at once here, but no one may read them before the wait."""
        name, instruction = str(product.sums.value), product.instruction
        count = instruction.columns // 2
        first = uniform(self.value(product.sums.operands[0]))
        reads = [
            self._described(address, product.layout, rows)
            for address, rows in (
                (product.left, instruction.rows),
                (product.right, instruction.columns),
            )
        ]
        left, right = (
            self.shared.start_group(*read).view(np.uint8).reshape(-1, rows, 32)
            for read, rows in zip(reads, (instruction.rows, instruction.columns), strict=True)
        )
        self.groups_running.start(name, reads)
        sums = self.registers[name][first : first + count].reshape(count, -1, 128)
        elements = instruction.element.left, instruction.element.right
        result = multiply_group(left, right, sums, elements)
        self.registers[name][first : first + count] = result.reshape(count, *self.shape)
        self.multiplications += left.shape[0]

    def _described(self, address: Scalar, layout: int, rows: int) -> tuple[Array, Array, Array]:
        """Block, address and warp of every chunk of a matrix, for every group of warps."""
        of_threads = np.broadcast_to(self.value(address), self.shape).reshape(-1, 128)
        if np.any(of_threads != of_threads[:, :1]):
            raise AccessError("The threads of a group of warps disagree on a matrix.")
        if np.any(of_threads % 16):
            raise AccessError("A matrix lies at a multiple of 16 bytes only.")
        chunks = [
            described_chunks(layout | (int(start) & 0x3FFFF) >> 4, rows).reshape(-1)
            for start in of_threads[:, 0]
        ]
        groups = self.shape[1] // 128
        number = np.repeat(np.arange(len(chunks)), 2 * rows)
        return number // groups, np.concatenate(chunks), number % groups * 4

    def _access_shared(self, statement: StoreShared | LoadShared) -> None:
        if isinstance(statement, StoreShared):
            block, warp, address, *values = self._threads(statement.address, *statement.values)
            words = np.stack([to_words(v) for v in values], 1)
            self.shared.write("store", block, address, warp, words)
            return
        block, warp, address = self._threads(statement.address)
        size = 4 * len(statement.registers)
        loaded = self.shared.read("load", block, address, warp, size)
        self._set_active(statement.registers, from_words(loaded, statement.registers[0].dtype))

    def _load_global(self, load: LoadGlobal) -> None:
        _, _, index = self._threads(load.index)
        stored = self.memory.read(load.buffer, index, len(load.registers))
        values = stored.view(NUMPY[load.buffer.storage])
        self._set_active(load.registers, values.astype(wide(load.buffer)))

    def _store_global(self, store: StoreGlobal) -> None:
        _, _, index, *values = self._threads(store.index, *store.values)
        dtype = NUMPY[store.buffer.storage]
        with np.errstate(over="ignore"):
            narrow = np.ascontiguousarray(np.stack(values, 1).astype(dtype))
        if dtype.kind in "iu" and np.any(narrow != np.stack(values, 1)):
            raise ArithmeticError(f"A value leaves the range of {store.buffer.storage}.")
        self.memory.write(store.buffer, index, len(values), narrow.view(np.uint8))
