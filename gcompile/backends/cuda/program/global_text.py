"""Print loads from and stores to global memory: one access of the whole width."""

from __future__ import annotations

from collections.abc import Iterable

from gcompile.backends.cuda.program.program import (
    LoadGlobal,
    LoadWords,
    Storage,
    StoreGlobal,
)
from gcompile.backends.cuda.program.scalar_text import scalar_text

_VECTORS = {4: "unsigned", 8: "uint2", 16: "uint4"}


def load_global_lines(load: LoadGlobal) -> Iterable[str]:
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


def load_words_lines(load: LoadWords) -> Iterable[str]:
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


def store_global_lines(store: StoreGlobal) -> Iterable[str]:
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
