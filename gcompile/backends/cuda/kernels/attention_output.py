"""The result of attention on its way out: sums of values divided by the sums of their weights."""

from __future__ import annotations

from gcompile.backends.cuda.kernels.attention import (
    QUERIES,
    RESULT_FACTOR,
    RESULT_ZERO_POINT,
    Attention,
)
from gcompile.backends.cuda.kernels.attention_softmax import reduced
from gcompile.backends.cuda.kernels.numbers import number, stored_integer
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
    if not what.has_integers:
        return value
    scaled = apply("fmul", value, number(RESULT_FACTOR))
    if not o.is_integer:
        return scaled if v.is_integer else value
    return stored_integer(scaled, o.storage, number(RESULT_ZERO_POINT))
