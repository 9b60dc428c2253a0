"""The softmax of attention as it runs along: one block of keys after the other.

With m the largest weight so far and l the sum of the exponentials so far (both of each query),

    m' = max(m, row maximum)        p = 2^(s - m')
    l' = l * 2^(m - m') + sum of p  O' = O * 2^(m - m')

in which everything is scaled by log2 e. Source: Dao, "FlashAttention-2", 2023, algorithm 1.
"""

from __future__ import annotations

import math

from gcompile.backends.cuda.kernels.attention import LOG2_E, QUERIES, WEIGHT_FACTOR, Attention
from gcompile.backends.cuda.kernels.numbers import number
from gcompile.backends.cuda.program.program import (
    LANE,
    WARP,
    Exchange,
    For,
    If,
    Let,
    LoadGlobal,
    Registers,
    Set,
    Statement,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    both,
    constant,
    less,
    register,
    select,
    variable,
)

NEVER = -math.inf
_HIDDEN, _LEAST = -1e38, -3.4028234e38
"""A weight whose power is zero beside any other, and the most negative float32, nearly."""


def masked(what: Attention, first_key: Scalar) -> list[Statement]:
    """Scale to powers of two, add the mask, and hide keys that do not exist or lie ahead."""
    i = variable("i")
    value = register("s", i, "float32")
    key = first_key + variable("i") // 4 * 8 + (LANE & 3) * 2 + i % 2
    query = variable("first_query") + WARP * QUERIES + (LANE >> 2) + (i // 2 % 2) * 8
    factor = number(WEIGHT_FACTOR) if what.has_integers else constant(what.weight_scale * LOG2_E)
    scaled = apply("fmul", value, factor)
    body: list[Statement] = [Let("key", key), Let("query", query)]
    visible = both(
        less(variable("key"), what.keys) if what.keys % what.block_keys else None,
        less(variable("key"), variable("query") + (what.keys - what.queries + 1))
        if what.causal
        else None,
    )
    if what.mask is not None:
        body += _mask(what, visible)
        added = register("added", 0, "float32")
        scaled = apply("fma", apply("fmul", added, real(LOG2_E)), real(1.0), scaled)
    if visible is not None:
        scaled = select(visible, scaled, real(NEVER))
    body.append(Set(value, scaled))
    return [For("i", what.block_keys // 2, tuple(body), unrolled=True)]


def _mask(what: Attention, visible: Scalar | None) -> list[Statement]:
    """Load what is added to one weight, where there is a query and a key."""
    assert what.mask is not None
    assert what.mask_buffer is not None
    batch, heads, queries, keys = what.mask.shape
    row = (variable("sequence") if batch > 1 else constant(0)) * heads
    row = (row + (variable("head") if heads > 1 else 0)) * queries
    row = row + (variable("query") if queries > 1 else 0)
    load = LoadGlobal(
        (register("added", 0, "float32"),),
        what.mask_buffer,
        row * keys + variable("key"),
    )
    exists = both(
        less(variable("query"), what.queries) if what.queries % (what.block_queries) else None,
        visible,
    )
    return [
        Registers("added", "float32", 1, zero=True),
        load if exists is None else If(exists, (load,)),
    ]


def softmax(what: Attention, columns: int) -> list[Statement]:
    """Turn the weights of a query into exponentials, and rescale what was summed before."""
    keys = what.block_keys // 8
    result: list[Statement] = [
        Registers("row", "float32", 2),
        Registers("other", "float32", 1),
        Registers("change", "float32", 2),
    ]
    for half in (0, 1):
        row, other = register("row", half, "float32"), register("other", 0, "float32")
        largest = register("largest", half, "float32")
        total, change = (register(n, half, "float32") for n in ("total", "change"))
        j = variable("j")
        pair = [register("s", j * 4 + (2 * half + i), "float32") for i in (0, 1)]
        greatest = apply("fmax", row, apply("fmax", pair[0], pair[1]))
        # Where every key so far is hidden, the largest is -inf, from which none is subtracted.
        base = select(apply("less", row, -3e38), real(0.0), row)
        powers = [Set(p, apply("exp2", apply("fsub", p, variable("base")))) for p in pair]
        add = Set(total, apply("fadd", total, apply("fadd", pair[0], pair[1])))
        result += [
            Set(row, largest),
            For("j", keys, (Set(row, greatest),), unrolled=True),
            *reduced("fmax", row, other),
            Let(f"base{half}", base),
            Set(
                change,
                apply("exp2", apply("fsub", largest, variable(f"base{half}", "float32"))),
            ),
            Set(largest, row),
            Set(total, apply("fmul", total, change)),
            For(
                "j",
                keys,
                (Let("base", variable(f"base{half}", "float32")), *powers, add),
                unrolled=True,
            ),
        ]
    out = register("out", variable("i"), "float32")
    rescale = apply("fmul", out, register("change", variable("i") // 2 % 2, "float32"))
    result.append(For("i", columns * 4, (Set(out, rescale),), unrolled=True))
    return result


def reduced(operation: str, value: Scalar, other: Scalar) -> list[Statement]:
    """Combine the four lanes that share a row."""
    result: list[Statement] = []
    for distance in (1, 2):
        result += [
            Exchange(other, value, distance),
            Set(value, apply(operation, value, other)),
        ]
    return result


def real(value: float) -> Scalar:
    return Scalar("constant", "float32", (), value)
