"""What statements on tensor cores do in the interpreter."""

from __future__ import annotations

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
    ShowToGroups,
    WaitGroup,
)
from gcompile.backends.cuda.program.memory import AccessError
from gcompile.backends.cuda.program.operations import Array
from gcompile.backends.cuda.program.scalar import Scalar
from gcompile.backends.cuda.program.sparse_core import multiply_sparse
from gcompile.backends.cuda.program.tensor_core import (
    described_chunks,
    load_matrix,
    multiply,
    multiply_group,
)

GroupStatement = ShowToGroups | BeginGroup | CommitGroup | WaitGroup | MultiplyGroup


def load_matrices(machine: Machine, load: LoadMatrix) -> None:
    """Execute `ldmatrix`."""
    count = len(load.registers)
    block, warp, address = machine.threads(load.address)
    used = np.tile(np.arange(32) < 8 * count, len(block) // 32)
    words = machine.shared.read("ldmatrix", block[used], address[used], warp[used], 16)
    rows = words.view(np.uint8).reshape(-1, count, 8, 16).swapaxes(0, 1)
    loaded = load_matrix(rows, load.transposed)
    for target, values in zip(load.registers, loaded, strict=True):
        machine.set(target, values.reshape(machine.shape))


def multiply_fragments(machine: Machine, product: Multiply | MultiplySparse) -> None:
    """Execute `mma.sync` or `mma.sp`."""
    sums, left, right = (
        machine.of_warps(group) for group in (product.sums, product.left, product.right)
    )
    if isinstance(product, MultiplySparse):
        types = product.instruction.element
        (metadata,) = machine.of_warps([product.metadata])
        elements = types.right, types.left
        sums = multiply_sparse(left, right, sums, metadata, product.selector, elements)
        machine.multiplications += left.shape[1]
    else:
        instruction = product.instruction
        elements = instruction.left, instruction.right
        for piece in instruction.pieces:
            read = left[list(piece.left)], right[list(piece.right)], sums[list(piece.sums)]
            sums[list(piece.sums)] = multiply(*read, elements, instruction.shape)
            machine.multiplications += left.shape[1]
    for target, values in zip(product.sums, sums, strict=True):
        machine.set(target, values.reshape(machine.shape))


def of_group(machine: Machine, statement: GroupStatement) -> None:
    """Execute what belongs to `wgmma`."""
    match statement:
        case ShowToGroups():
            machine.shared.show_to_groups()
        case BeginGroup():
            machine.groups_running.touched.clear()
        case CommitGroup():
            machine.groups_running.commit()
        case WaitGroup(pending):
            for read in machine.groups_running.wait(pending):
                machine.shared.finish_group(*read)
        case MultiplyGroup():
            _multiply_group(machine, statement)


def _multiply_group(machine: Machine, product: MultiplyGroup) -> None:
    """The sums are right at once here, but no one may read them before the wait."""
    name, instruction = str(product.sums.value), product.instruction
    count = instruction.columns // 2
    first = uniform(machine.value(product.sums.operands[0]))
    reads = [
        _described(machine, address, product.layout, rows)
        for address, rows in (
            (product.left, instruction.rows),
            (product.right, instruction.columns),
        )
    ]
    left, right = (
        machine.shared.start_group(*read).view(np.uint8).reshape(-1, rows, 32)
        for read, rows in zip(reads, (instruction.rows, instruction.columns), strict=True)
    )
    machine.groups_running.start(name, reads)
    sums = machine.registers[name][first : first + count].reshape(count, -1, 128)
    elements = instruction.element.left, instruction.element.right
    result = multiply_group(left, right, sums, elements)
    machine.registers[name][first : first + count] = result.reshape(count, *machine.shape)
    machine.multiplications += left.shape[0]


def _described(
    machine: Machine, address: Scalar, layout: int, rows: int
) -> tuple[Array, Array, Array]:
    """Block, address and warp of every chunk of a matrix, for every group of warps."""
    of_threads = np.broadcast_to(machine.value(address), machine.shape).reshape(-1, 128)
    if np.any(of_threads != of_threads[:, :1]):
        raise AccessError("The threads of a group of warps disagree on a matrix.")
    if np.any(of_threads % 16):
        raise AccessError("A matrix lies at a multiple of 16 bytes only.")
    chunks = [
        described_chunks(layout | (int(start) & 0x3FFFF) >> 4, rows).reshape(-1)
        for start in of_threads[:, 0]
    ]
    groups = machine.shape[1] // 128
    number = np.repeat(np.arange(len(chunks)), 2 * rows)
    return number // groups, np.concatenate(chunks), number % groups * 4
