"""What statements on memory do in the interpreter."""

from __future__ import annotations

import numpy as np

from gcompile.backends.cuda.program.machine import Machine
from gcompile.backends.cuda.program.program import (
    CopyAsync,
    LoadGlobal,
    LoadShared,
    LoadWords,
    StoreGlobal,
    StoreShared,
)
from gcompile.backends.cuda.program.registers import NUMPY, from_words, to_words, wide


def copy_async(machine: Machine, copy: CopyAsync) -> None:
    """Start a copy: it arrives at a wait."""
    block, warp, address, index = machine.threads(copy.address, copy.index)
    machine.shared.start_copy(block, address, warp, copy.size)
    kept = np.ones(len(block), bool)
    if copy.condition is not None:
        kept = machine.threads(copy.condition)[2].astype(bool)
    count = copy.size // copy.buffer.element_bytes
    values = np.zeros((len(block), copy.size), np.uint8)
    values[kept] = machine.memory.read(copy.buffer, index[kept], count)
    machine.open_group.append((block, address, warp, values.view(np.uint32)))


def wait(machine: Machine, pending: int) -> None:
    """All copies but those of the newest groups arrive."""
    machine.all_threads("A wait")
    arrived = max(0, len(machine.groups) - pending)
    for group in machine.groups[:arrived]:
        for block, address, warp, words in group:
            machine.shared.finish_copy(block, address, warp, words)
    machine.groups = machine.groups[arrived:]


def access_shared(machine: Machine, statement: StoreShared | LoadShared) -> None:
    """Store to shared memory or load from it."""
    if isinstance(statement, StoreShared):
        block, warp, address, *values = machine.threads(statement.address, *statement.values)
        words = np.stack([to_words(v) for v in values], 1)
        machine.shared.write("store", block, address, warp, words)
        return
    block, warp, address = machine.threads(statement.address)
    size = 4 * len(statement.registers)
    loaded = machine.shared.read("load", block, address, warp, size)
    machine.set_active(statement.registers, from_words(loaded, statement.registers[0].dtype))


def load_global(machine: Machine, load: LoadGlobal) -> None:
    """Elements are widened on their way into registers."""
    _, _, index = machine.threads(load.index)
    stored = machine.memory.read(load.buffer, index, len(load.registers))
    values = stored.view(NUMPY[load.buffer.storage])
    machine.set_active(load.registers, values.astype(wide(load.buffer)))


def load_words(machine: Machine, load: LoadWords) -> None:
    """Bytes go into registers as they are."""
    _, _, index = machine.threads(load.index)
    count = 4 * len(load.registers) // load.buffer.element_bytes
    read = np.ascontiguousarray(machine.memory.read(load.buffer, index, count))
    machine.set_active(load.registers, read.view(np.uint32))


def store_global(machine: Machine, store: StoreGlobal) -> None:
    """Elements are narrowed on their way out."""
    _, _, index, *values = machine.threads(store.index, *store.values)
    dtype = NUMPY[store.buffer.storage]
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(np.stack(values, 1).astype(dtype))
    if dtype.kind in "iu" and np.any(narrow != np.stack(values, 1)):
        raise ArithmeticError(f"A value leaves the range of {store.buffer.storage}.")
    machine.memory.write(store.buffer, index, len(values), narrow.view(np.uint8))
