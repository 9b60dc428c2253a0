"""Execute a tile program in numpy: all threads of all blocks at once, statement by statement.

It evaluates the very expressions that are printed as CUDA, moves the bytes that the copies move,
and gives tensor-core instructions the meaning that the PTX manual gives them. What a device would
get wrong silently (an address out of range or not aligned, a missing barrier or wait, an element
written twice) raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gcompile.backends.cuda.program.evaluate import uniform
from gcompile.backends.cuda.program.machine import Machine
from gcompile.backends.cuda.program.matrix_statements import (
    BeginGroup,
    CommitGroup,
    LoadMatrix,
    Multiply,
    MultiplyGroup,
    MultiplySparse,
    RoundToTf32,
    ShowToGroups,
    WaitGroup,
)
from gcompile.backends.cuda.program.memory import GlobalMemory
from gcompile.backends.cuda.program.memory_statements import (
    access_shared,
    copy_async,
    load_global,
    load_words,
    store_global,
    wait,
)
from gcompile.backends.cuda.program.operations import Array
from gcompile.backends.cuda.program.program import (
    Barrier,
    Commit,
    CopyAsync,
    Exchange,
    For,
    If,
    Let,
    LoadGlobal,
    LoadShared,
    LoadWords,
    Program,
    Registers,
    Scope,
    Set,
    Statement,
    StoreGlobal,
    StoreShared,
    Wait,
    WarpBarrier,
)
from gcompile.backends.cuda.program.registers import empty_registers
from gcompile.backends.cuda.program.tensor_core import round_to_tf32
from gcompile.backends.cuda.program.tensor_statements import (
    load_matrices,
    multiply_fragments,
    of_group,
)

_AT_ONCE_BYTES = 64 << 20
"""Shared memory of the blocks that run together, which bounds the interpreter's own memory."""


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
        machine = Machine.start(program, blocks[start : start + at_once], memory)
        _run(machine, program.body)
        multiplications += machine.multiplications
        for kind, count in machine.shared.conflicts.items():
            conflicts[kind] = conflicts.get(kind, 0) + count
    return Run(conflicts, multiplications)


def _run(machine: Machine, body: Sequence[Statement]) -> None:
    for statement in body:
        _execute(machine, statement)


def _execute(machine: Machine, statement: Statement) -> None:
    match statement:
        case Let(name, value):
            machine.variables[name] = machine.value(value)
        case Registers(name, dtype, count, zero):
            machine.registers[name] = empty_registers(dtype, (count, *machine.shape), zero)
            machine.groups_running.touched.add(name)
        case Set(target, value):
            machine.set(target, machine.value(value))
        case For(counter, count, body):
            for i in range(count if isinstance(count, int) else uniform(machine.value(count))):
                machine.variables[counter] = np.asarray(i)
                _run(machine, body)
        case Scope(body):
            _run(machine, body)
        case If(condition, body):
            with machine.only(machine.value(condition)):
                _run(machine, body)
        case Barrier():
            machine.all_threads("A barrier")
            machine.shared.barrier()
        case WarpBarrier():
            machine.all_threads("A barrier")
            machine.shared.warp_barrier()
        case Exchange(target, value, distance):
            machine.all_threads("An exchange")
            lanes = np.broadcast_to(machine.value(value), machine.shape).reshape(-1, 32)
            machine.set(target, lanes[:, np.arange(32) ^ distance].reshape(machine.shape))
        case Commit():
            machine.all_threads("A commit")
            machine.groups.append(machine.open_group)
            machine.open_group = []
        case Wait(pending):
            wait(machine, pending)
        case ShowToGroups() | BeginGroup() | CommitGroup() | WaitGroup() | MultiplyGroup():
            machine.all_threads("An instruction of a group of warps")
            of_group(machine, statement)
        case LoadMatrix():
            machine.all_threads("A warp's instruction")
            load_matrices(machine, statement)
        case Multiply() | MultiplySparse():
            machine.all_threads("A warp's instruction")
            multiply_fragments(machine, statement)
        case RoundToTf32(target):
            machine.set(target, round_to_tf32(machine.value(target)))
        case CopyAsync():
            copy_async(machine, statement)
        case StoreShared() | LoadShared():
            access_shared(machine, statement)
        case LoadGlobal():
            load_global(machine, statement)
        case LoadWords():
            load_words(machine, statement)
        case StoreGlobal():
            store_global(machine, statement)
