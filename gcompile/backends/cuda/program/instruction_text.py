"""Print barriers, copies, exchanges and tensor-core instructions as inline PTX."""

from __future__ import annotations

from collections.abc import Iterable

from gcompile.backends.cuda.program.global_text import (
    load_global_lines,
    load_words_lines,
    store_global_lines,
)
from gcompile.backends.cuda.program.instruction import Instruction, Piece
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
from gcompile.backends.cuda.program.program import (
    Barrier,
    Commit,
    CopyAsync,
    Exchange,
    LoadGlobal,
    LoadShared,
    LoadWords,
    Statement,
    StoreGlobal,
    StoreShared,
    Wait,
    WarpBarrier,
)
from gcompile.backends.cuda.program.scalar import Scalar
from gcompile.backends.cuda.program.scalar_text import scalar_text


def memory_lines(statement: Statement) -> Iterable[str]:
    """Print a statement that is neither a loop nor an assignment."""
    match statement:
        case CopyAsync():
            yield _copy_async(statement)
        case Commit():
            yield 'asm volatile("cp.async.commit_group;" ::: "memory");'
        case Wait(pending):
            yield f'asm volatile("cp.async.wait_group {pending};" ::: "memory");'
        case Barrier():
            yield "__syncthreads();"
        case WarpBarrier():
            yield "__syncwarp();"
        case Exchange(target, value, distance):
            mine = scalar_text(value)
            yield f"{scalar_text(target)} = __shfl_xor_sync(0xffffffffu, {mine}, {distance});"
        case LoadMatrix():
            yield _load_matrix(statement)
        case ShowToGroups():
            yield 'asm volatile("fence.proxy.async.shared::cta;" ::: "memory");'
        case BeginGroup():
            yield 'asm volatile("wgmma.fence.sync.aligned;" ::: "memory");'
        case CommitGroup():
            yield 'asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");'
        case WaitGroup(pending):
            yield f'asm volatile("wgmma.wait_group.sync.aligned {pending};" ::: "memory");'
        case MultiplyGroup():
            yield _multiply_group(statement)
        case Multiply(instruction, sums, left, right):
            operands = ", ".join(scalar_text(r) for r in (*sums, *left, *right))
            yield f"{multiply_name(instruction)}({operands});"
        case MultiplySparse():
            yield _multiply_sparse(statement)
        case RoundToTf32(target):
            text = scalar_text(target)
            yield f'asm("cvt.rna.tf32.f32 %0, %1;" : "=r"({text}) : "f"(__uint_as_float({text})));'
        case StoreShared(address, values):
            yield _store_shared(address, values)
        case LoadShared(registers, address):
            yield _load_shared(registers, address)
        case LoadGlobal():
            yield from load_global_lines(statement)
        case LoadWords():
            yield from load_words_lines(statement)
        case StoreGlobal():
            yield from store_global_lines(statement)


def _copy_async(copy: CopyAsync) -> str:
    # Copies of 16 bytes pass by the first-level cache, which shares its memory with ours.
    cache = "cg" if copy.size == 16 else "ca"
    source = f'"l"({copy.buffer.name} + {scalar_text(copy.index)})'
    address = f'"r"(shared + {scalar_text(copy.address)})'
    name = f"cp.async.{cache}.shared.global"
    if copy.condition is None:
        return (
            f'asm volatile("{name} [%0], [%1], {copy.size};" :: {address}, {source} : "memory");'
        )
    kept = f'"r"({scalar_text(copy.condition)} ? {copy.size} : 0)'
    template = f"{name} [%0], [%1], {copy.size}, %2;"
    return f'asm volatile("{template}" :: {address}, {source}, {kept} : "memory");'


def _multiply_group(product: MultiplyGroup) -> str:
    """The address fills bits 0 to 13 of a descriptor, in units of 16 bytes."""
    instruction = product.instruction
    count = instruction.columns // 2
    first = scalar_text(product.sums.operands[0])
    letter = "r" if instruction.element.sums == "int32" else "f"
    sums = ", ".join(f'"+{letter}"({product.sums.value}[{first} + {i}])' for i in range(count))
    places = ", ".join(f"%{i}" for i in range(count))
    descriptors = ", ".join(
        f'"l"(0x{product.layout:x}ull | (((shared + {scalar_text(a)}) & 0x3ffff) >> 4))'
        for a in (product.left, product.right)
    )
    operands = f"{{{places}}}, %{count}, %{count + 1}, 1{instruction.immediates}"
    return f'asm volatile("{instruction.name} {operands};" : {sums} : {descriptors});'


def _multiply_sparse(product: MultiplySparse) -> str:
    letter = "r" if product.instruction.element.sums == "int32" else "f"
    groups = ["{" + ", ".join(f"%{4 * g + i}" for i in range(4)) + "}" for g in range(3)]
    operands = f"{', '.join(groups)}, {groups[0]}, %12, 0x{product.selector:x}"
    outputs = ", ".join(f'"+{letter}"({scalar_text(r)})' for r in product.sums)
    read = (*product.left, *product.right, product.metadata)
    inputs = ", ".join(f'"r"({scalar_text(r)})' for r in read)
    return f'asm volatile("{product.instruction.name} {operands};" : {outputs} : {inputs});'


def _load_matrix(load: LoadMatrix) -> str:
    count = len(load.registers)
    transposed = ".trans" if load.transposed else ""
    places = ", ".join(f"%{i}" for i in range(count))
    outputs = ", ".join(f'"=r"({scalar_text(r)})' for r in load.registers)
    name = f"ldmatrix.sync.aligned.m8n8.x{count}{transposed}.shared.b16"
    address = f'"r"(shared + {scalar_text(load.address)})'
    return f'asm volatile("{name} {{{places}}}, [%{count}];" : {outputs} : {address} : "memory");'


_ASM_WIDTHS = {1: "", 2: ".v2", 4: ".v4"}


def _letter(value: Scalar) -> str:
    return "f" if value.dtype == "float32" else "r"


def _store_shared(address: Scalar, values: tuple[Scalar, ...]) -> str:
    places = ", ".join(f"%{i + 1}" for i in range(len(values)))
    inputs = ", ".join(f'"{_letter(v)}"({scalar_text(v)})' for v in values)
    kind = "f32" if values[0].dtype == "float32" else "b32"
    return (
        f'asm volatile("st.shared{_ASM_WIDTHS[len(values)]}.{kind} [%0], {{{places}}};" '
        f':: "r"(shared + {scalar_text(address)}), {inputs} : "memory");'
    )


def _load_shared(registers: tuple[Scalar, ...], address: Scalar) -> str:
    count = len(registers)
    places = ", ".join(f"%{i}" for i in range(count))
    outputs = ", ".join(f'"={_letter(r)}"({scalar_text(r)})' for r in registers)
    kind = "f32" if registers[0].dtype == "float32" else "b32"
    return (
        f'asm volatile("ld.shared{_ASM_WIDTHS[count]}.{kind} {{{places}}}, [%{count}];" '
        f': {outputs} : "r"(shared + {scalar_text(address)}) : "memory");'
    )


def multiply_name(instruction: Instruction) -> str:
    """What the device function around the instruction is called."""
    return f"mma_{instruction.left}_{instruction.right}"


def multiply_function(instruction: Instruction) -> str:
    """A device function around the instruction: d = a · b + d."""
    kind, letter = ("int", "r") if instruction.sums == "int32" else ("float", "f")
    sums = [f"{kind}& d{i}" for i in range(len(instruction.sum_parts))]
    left = [f"unsigned a{i}" for i in range(len(instruction.left_parts))]
    right = [f"unsigned b{i}" for i in range(len(instruction.right_parts))]
    lines = [_piece_text(instruction, piece, letter) for piece in instruction.pieces]
    return (
        f"__device__ __forceinline__ void {multiply_name(instruction)}"
        f"({', '.join(sums + left + right)}) {{\n" + "\n".join(lines) + "\n}"
    )


def _piece_text(instruction: Instruction, piece: Piece, letter: str) -> str:
    d, a = len(piece.sums), len(piece.left)
    groups = [
        "{" + ", ".join(f"%{i}" for i in range(start, start + count)) + "}"
        for start, count in ((0, d), (d, a), (d + a, len(piece.right)), (0, d))
    ]
    outputs = ", ".join(f'"+{letter}"(d{i})' for i in piece.sums)
    read = (*(f"a{i}" for i in piece.left), *(f"b{i}" for i in piece.right))
    inputs = ", ".join(f'"r"({name})' for name in read)
    return (
        f'  asm volatile("{instruction.name} {", ".join(groups)};"\n    : {outputs} : {inputs});'
    )
