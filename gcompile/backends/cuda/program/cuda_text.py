"""Print a tile program as CUDA C with inline PTX."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gcompile.backends.cuda.program.instruction import Instruction
from gcompile.backends.cuda.program.program import (
    Barrier,
    BeginGroup,
    Buffer,
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
    Storage,
    StoreGlobal,
    StoreShared,
    Wait,
    WaitGroup,
    WarpBarrier,
)
from gcompile.backends.cuda.program.scalar import OPERATIONS, DType, Scalar

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
_VECTORS = {4: "unsigned", 8: "uint2", 16: "uint4"}

_PRELUDE = r"""
__device__ __forceinline__ float f16_to_float(unsigned bits) {
  float value;
  const unsigned short half = bits;
  asm("{.reg .f16 h; mov.b16 h, %1; cvt.f32.f16 %0, h;}" : "=f"(value) : "h"(half));
  return value;
}
__device__ __forceinline__ unsigned float_to_f16(float value) {
  unsigned short bits;
  asm("{.reg .f16 h; cvt.rn.f16.f32 h, %1; mov.b16 %0, h;}" : "=h"(bits) : "f"(value));
  return bits;
}
__device__ __forceinline__ unsigned pack_f16(float low, float high) {
  unsigned bits;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
__device__ __forceinline__ unsigned pack_bf16(float low, float high) {
  unsigned bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
}
__device__ __forceinline__ unsigned fma_f16(unsigned a, unsigned b, unsigned c) {
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(a) : "r"(a), "r"(b), "r"(c));
  return a;
}
__device__ __forceinline__ unsigned fma_bf16(unsigned a, unsigned b, unsigned c) {
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(a) : "r"(a), "r"(b), "r"(c));
  return a;
}
__device__ __forceinline__ float exp2_approximately(float value) {
  asm("ex2.approx.ftz.f32 %0, %0;" : "+f"(value));
  return value;
}
__device__ __forceinline__ float bf16_to_float(unsigned bits) {
  return __uint_as_float(bits << 16);
}
__device__ __forceinline__ unsigned float_to_bf16(float value) {
  unsigned short bits;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
"""


def cuda_text(program: Program) -> str:
    """Return one translation unit that needs no header."""
    body = list(_body(program.body, 1))
    instructions = dict.fromkeys(s.instruction for s in _walk(program.body, Multiply))
    parameters = ", ".join(_parameter(b) for b in program.buffers)
    bounds = f"{program.threads}, {program.blocks_per_processor}"
    lines = [
        *(_multiply_function(i) for i in instructions),
        f'extern "C" __global__ void __launch_bounds__({bounds}) {program.name}({parameters}) {{',
        "  extern __shared__ __align__(1024) uint4 shared_memory[];",
        "  const unsigned shared = (unsigned)__cvta_generic_to_shared(shared_memory);",
        "  const int thread = threadIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;",
        "  const int block_x = blockIdx.x, block_y = blockIdx.y, block_z = blockIdx.z;",
        *body,
        "}",
    ]
    return _PRELUDE + "\n".join(lines) + "\n"


def scalar_text(expression: Scalar) -> str:
    """Print one expression."""
    match expression.operation:
        case "constant" if expression.dtype == "float32":
            return _float_text(float(expression.value))
        case "constant" if expression.dtype == "uint32":
            return f"0x{int(expression.value):x}u"
        case "constant":
            return f"({expression.value})" if int(expression.value) < 0 else str(expression.value)
        case "variable":
            return str(expression.value)
        case "register":
            return f"{expression.value}[{scalar_text(expression.operands[0])}]"
    texts = [scalar_text(o) for o in expression.operands]
    return OPERATIONS[expression.operation].text.format(*texts)


def _float_text(value: float) -> str:
    """Print exactly, as a hexadecimal literal."""
    if value != value:
        return "__int_as_float(0x7fffffff)"
    if value in (float("inf"), float("-inf")):
        return f"__int_as_float(0x{'7' if value > 0 else 'f'}f800000)"
    return f"({value.hex()}f)" if value < 0 else f"{value.hex()}f"


def _walk(body: Sequence[Statement], kind: type[Multiply]) -> Iterable[Multiply]:
    for statement in body:
        if isinstance(statement, kind):
            yield statement
        elif isinstance(statement, For | If | Scope):
            yield from _walk(statement.body, kind)


def _parameter(buffer: Buffer) -> str:
    const = "" if buffer.written else "const "
    return f"{const}{_STORED_TYPES[buffer.storage]}* __restrict__ {buffer.name}"


def _multiply_name(instruction: Instruction) -> str:
    return f"mma_{instruction.left}_{instruction.right}"


def _multiply_function(instruction: Instruction) -> str:
    """A device function around the instruction: d = a · b + d."""
    kind, letter = ("int", "r") if instruction.sums == "int32" else ("float", "f")
    sums = [f"{kind}& d{i}" for i in range(len(instruction.sum_parts))]
    left = [f"unsigned a{i}" for i in range(len(instruction.left_parts))]
    right = [f"unsigned b{i}" for i in range(len(instruction.right_parts))]
    d, a = len(sums), len(left)
    groups = [
        "{" + ", ".join(f"%{i}" for i in range(start, start + count)) + "}"
        for start, count in ((0, d), (d, a), (d + a, len(right)), (0, d))
    ]
    outputs = ", ".join(f'"+{letter}"(d{i})' for i in range(d))
    inputs = ", ".join(f'"r"({p.split()[-1]})' for p in left + right)
    return (
        f"__device__ __forceinline__ void {_multiply_name(instruction)}"
        f"({', '.join(sums + left + right)}) {{\n"
        f'  asm volatile("{instruction.name} {", ".join(groups)};"\n'
        f"    : {outputs} : {inputs});\n}}"
    )


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
            yield "#pragma unroll" if unrolled else "#pragma unroll 1"
            limit = count if isinstance(count, int) else scalar_text(count)
            yield f"for (int {counter} = 0; {counter} < {limit}; ++{counter}) {{"
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
            yield from _memory_lines(statement)


def _memory_lines(statement: Statement) -> Iterable[str]:
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
            yield f"{_multiply_name(instruction)}({operands});"
        case RoundToTf32(target):
            text = scalar_text(target)
            yield f'asm("cvt.rna.tf32.f32 %0, %1;" : "=r"({text}) : "f"(__uint_as_float({text})));'
        case StoreShared(address, values):
            yield _store_shared(address, values)
        case LoadShared(registers, address):
            yield _load_shared(registers, address)
        case LoadGlobal():
            yield from _load_global(statement)
        case LoadWords():
            yield from _load_words(statement)
        case StoreGlobal():
            yield from _store_global(statement)


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


def _load_global(load: LoadGlobal) -> Iterable[str]:
    """One access of the whole width, taken apart in registers."""
    storage, size = load.buffer.storage, load.buffer.element_bytes
    total = size * len(load.registers)
    pointer = f"{load.buffer.name} + {scalar_text(load.index)}"
    targets = [scalar_text(r) for r in load.registers]
    if len(targets) == 1:
        yield f"{targets[0]} = {_widen(storage, f'*({pointer})')};"
        return
    yield "{"
    if total < 4:
        yield f"  const unsigned part0 = *(const unsigned short*)({pointer});"
    else:
        yield f"  const {_VECTORS[total]} whole = *(const {_VECTORS[total]}*)({pointer});"
        for i, part in enumerate(_parts(total)):
            yield f"  const unsigned part{i} = {part};"
    for i, target in enumerate(targets):
        yield f"  {target} = {_widen(storage, _element(storage, i * size))};"
    yield "}"


def _load_words(load: LoadWords) -> Iterable[str]:
    """One access of the whole width."""
    total = 4 * len(load.registers)
    pointer = f"{load.buffer.name} + {scalar_text(load.index)}"
    yield "{"
    yield f"  const {_VECTORS[total]} whole = *(const {_VECTORS[total]}*)({pointer});"
    for target, part in zip(load.registers, _parts(total), strict=True):
        yield f"  {scalar_text(target)} = {part};"
    yield "}"


def _parts(total: int) -> list[str]:
    return ["whole"] if total == 4 else [f"whole.{c}" for c in "xyzw"[: total // 4]]


def _element(storage: Storage, offset: int) -> str:
    """The bits of one element of a vector that was loaded."""
    word, shift = f"part{offset // 4}", 8 * (offset % 4)
    match storage:
        case "float32":
            return f"__uint_as_float({word})"
        case "int32":
            return f"(int){word}"
        case "float16" | "bfloat16":
            return f"(({word} >> {shift}) & 0xffffu)"
        case "int8":
            return f"(int)(signed char)({word} >> {shift})"
        case "uint8":
            return f"(int)(({word} >> {shift}) & 0xffu)"


def _widen(storage: Storage, text: str) -> str:
    match storage:
        case "float16":
            return f"f16_to_float({text})"
        case "bfloat16":
            return f"bf16_to_float({text})"
        case _:
            return text


def _store_global(store: StoreGlobal) -> Iterable[str]:
    """Narrow the values, put them together and store them in one access."""
    storage, size = store.buffer.storage, store.buffer.element_bytes
    total = size * len(store.values)
    pointer = f"{store.buffer.name} + {scalar_text(store.index)}"
    narrowed = [_narrow(storage, scalar_text(v)) for v in store.values]
    if len(narrowed) == 1:
        yield f"*({pointer}) = {narrowed[0]};"
        return
    per_word = max(1, 4 // size)
    mask = {1: "0xffu", 2: "0xffffu", 4: ""}[size]
    words = []
    for start in range(0, len(narrowed), per_word):
        fields = [
            _bits(storage, text, mask) + (f" << {8 * size * i}" if i else "")
            for i, text in enumerate(narrowed[start : start + per_word])
        ]
        words.append(" | ".join(f"({f})" for f in fields))
    if total < 4:
        yield f"*(unsigned short*)({pointer}) = (unsigned short)({words[0]});"
    elif total == 4:
        yield f"*(unsigned*)({pointer}) = {words[0]};"
    else:
        kind = _VECTORS[total]
        yield f"*({kind}*)({pointer}) = make_{kind}({', '.join(words)});"


def _narrow(storage: Storage, text: str) -> str:
    match storage:
        case "float16":
            return f"float_to_f16({text})"
        case "bfloat16":
            return f"float_to_bf16({text})"
        case _:
            return text


def _bits(storage: Storage, text: str, mask: str) -> str:
    if storage == "float32":
        return f"__float_as_uint({text})"
    return f"(unsigned)({text}) & {mask}" if mask else f"(unsigned)({text})"
