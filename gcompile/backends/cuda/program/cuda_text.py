"""Print a tile program as CUDA C with inline PTX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gcompile.backends.cuda.program.instruction_text import memory_lines, multiply_function
from gcompile.backends.cuda.program.matrix_statements import Multiply
from gcompile.backends.cuda.program.operations import DType
from gcompile.backends.cuda.program.prelude import PRELUDE
from gcompile.backends.cuda.program.program import (
    Buffer,
    For,
    If,
    Let,
    Program,
    Registers,
    Scope,
    Set,
    Statement,
    Storage,
)
from gcompile.backends.cuda.program.scalar_text import scalar_text

_C_TYPES: dict[DType, str] = {
    "int32": "int",
    "uint32": "unsigned",
    "float32": "float",
    "bool": "bool",
}
_STORED_TYPES: dict[Storage, str] = {
    "float32": "float",
    "int32": "int",
    "float16": "unsigned short",
    "bfloat16": "unsigned short",
    "int8": "signed char",
    "uint8": "unsigned char",
}


def cuda_text(program: Program) -> str:
    """Return one translation unit that needs no header."""
    body = list(_body(program.body, 1))
    instructions = dict.fromkeys(s.instruction for s in _walk(program.body, Multiply))
    parameters = ", ".join(_parameter(b) for b in program.buffers)
    bounds = f"{program.threads}, {program.blocks_per_processor}"
    lines = [
        *(multiply_function(i) for i in instructions),
        f'extern "C" __global__ void __launch_bounds__({bounds}) {program.name}({parameters}) {{',
        "  extern __shared__ __align__(1024) uint4 shared_memory[];",
        "  const unsigned shared = (unsigned)__cvta_generic_to_shared(shared_memory);",
        "  const int thread = threadIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;",
        "  const int block_x = blockIdx.x, block_y = blockIdx.y, block_z = blockIdx.z;",
        *body,
        "}",
    ]
    return PRELUDE + "\n".join(lines) + "\n"


def _walk(body: Sequence[Statement], kind: type[Multiply]) -> Iterable[Multiply]:
    for statement in body:
        if isinstance(statement, kind):
            yield statement
        elif isinstance(statement, For | If | Scope):
            yield from _walk(statement.body, kind)


def _parameter(buffer: Buffer) -> str:
    const = "" if buffer.written else "const "
    return f"{const}{_STORED_TYPES[buffer.storage]}* __restrict__ {buffer.name}"


def _body(statements: Sequence[Statement], depth: int) -> Iterable[str]:
    for statement in statements:
        for line in _lines(statement, depth):
            yield "  " * depth + line if not line.startswith("\0") else line[1:]


def _lines(statement: Statement, depth: int) -> Iterable[str]:
    match statement:
        case Let(name, value):
            yield f"const {_C_TYPES[value.dtype]} {name} = {scalar_text(value)};"
        case Registers(name, dtype, count, zero):
            yield f"{_C_TYPES[dtype]} {name}[{count}]{' = {}' if zero else ''};"
        case Set(target, value):
            yield f"{scalar_text(target)} = {scalar_text(value)};"
        case For(counter, count, body, unrolled):
            limit = str(count) if isinstance(count, int) else scalar_text(count)
            if unrolled:
                yield "#pragma unroll"
                yield f"for (int {counter} = 0; {counter} < {limit}; ++{counter}) {{"
            else:
                yield "#pragma unroll 1"
                end = f"{counter}_end"
                start = f"{counter} = 0, {end} = unknown({limit})"
                yield f"for (int {start}; {counter} < {end}; ++{counter}) {{"
            yield from ("\0" + line for line in _body(body, depth + 1))
            yield "}"
        case Scope(body):
            yield "{"
            yield from ("\0" + line for line in _body(body, depth + 1))
            yield "}"
        case If(condition, body):
            yield f"if ({scalar_text(condition)}) {{"
            yield from ("\0" + line for line in _body(body, depth + 1))
            yield "}"
        case _:
            yield from memory_lines(statement)
