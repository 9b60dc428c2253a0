"""The result of attention on its way out: sums of values divided by the sums of their weights."""

from __future__ import annotations

from gcompile.backends.cuda.kernels.attention import QUERIES, Attention
from gcompile.backends.cuda.kernels.attention_softmax import reduced
from gcompile.backends.cuda.program.program import (
    LANE,
    WARP,
    Buffer,
    For,
    If,
    Registers,
    Statement,
    StoreGlobal,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    both,
    less,
    register,
    select,
    variable,
)

_RANGES = {"int8": (-128.0, 127.0), "uint8": (0.0, 255.0)}


def written(what: Attention, o: Buffer, start: Scalar, columns: int) -> list[Statement]:
    """Divide by the sums and store two elements at a time.

    Args:
        what: What is attended to.
        o: The memory.
        start: Index of the first vector of the head.
        columns: Instructions along the elements of a vector.
    """
    j = variable("j")
    result: list[Statement] = [Registers("other", "float32", 1)]
    for half in (0, 1):
        total = register("total", half, "float32")
        query = variable("first_query") + WARP * QUERIES + (LANE >> 2) + 8 * half
        column = j * 8 + (LANE & 3) * 2
        divisor = select(apply("less", 0.0, total), total, 1.0)
        if not what.zero_if_hidden:
            divisor = total
        values = tuple(
            _stored(
                what, apply("fdiv", register("out", j * 4 + (2 * half + i), "float32"), divisor)
            )
            for i in (0, 1)
        )
        index = start + query * what.rows[3].pitch + column
        exists = both(
            less(query, what.queries) if what.queries % (what.block_queries) else None,
            less(column, what.depth) if columns * 8 != what.depth else None,
        )
        store: Statement = StoreGlobal(o, index, values)
        if exists is not None:
            store = If(exists, (store,))
        result += [
            *reduced("fadd", total, register("other", 0, "float32")),
            For("j", columns, (store,), unrolled=True),
        ]
    return result


def _stored(what: Attention, value: Scalar) -> Scalar:
    """Scale the sum of stored values, and round it where integers are stored: ties to even."""
    _, _, v, o = what.tensors
    if not o.is_integer:
        return value if v.scale == 1.0 else apply("fmul", value, v.scale)
    low, high = (limit - o.zero_point for limit in _RANGES[o.storage])
    scaled = apply("fmul", value, v.scale / o.scale)
    held = apply("fmin", apply("fmax", scaled, low), high)
    return apply("float_to_s32", held) + o.zero_point
