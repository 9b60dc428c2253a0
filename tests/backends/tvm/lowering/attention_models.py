"""Attention between projections, with whatever an exporter puts in the middle."""

from __future__ import annotations

from collections.abc import Mapping

from gcompile import ir
from tests.backends.tvm.lowering.compiling import parse

SHARED_KEYS = """
        k5 = Unsqueeze(k, two)
        v5 = Unsqueeze(v, two)
        ke = Expand(k5, repeated)
        ve = Expand(v5, repeated)
        kr = Reshape(ke, whole)
        vr = Reshape(ve, whole)
        kt = Transpose<perm = [0, 1, 3, 2]>(kr)
        s = MatMul(q, kt)"""
"""Scores of four heads of queries, two of which share a head of keys; `vr` are the values."""

SHARING = (
    ", int64[1] two = {2}, int64[5] repeated = {2, 2, 2, 20, 16}, int64[4] whole = {2, 4, 20, 16}"
)
"""What that declares."""


def projected(
    body: str,
    sizes: tuple[int, int, int, int] = (2, 20, 4, 16),
    key_heads: int | None = None,
    *,
    inputs: str = "",
    constants: Mapping[str, ir.Array] | None = None,
    declared: str = "",
) -> ir.Model:
    """Projections q, k, v (batch, heads, tokens, depth) of x, the body, and a projection of o."""
    batch, tokens, heads, depth = sizes
    of_keys = key_heads or heads
    wide, narrow = heads * depth, of_keys * depth
    split = f"int64[4] split = {{{batch}, {tokens}, {heads}, {depth}}}"
    keys = f"int64[4] keys = {{{batch}, {tokens}, {of_keys}, {depth}}}"
    join = f"int64[3] join = {{{batch}, {tokens}, {wide}}}"
    text = f"""
        g (float[{batch},{tokens},{wide}] x{inputs}) => (float[{batch},{tokens},{wide}] y)
        <float[{wide},{wide}] wq, float[{wide},{narrow}] wk, float[{wide},{narrow}] wv,
         float[{wide},{wide}] wo, {split}, {keys}, {join}{declared}> {{
            pq = MatMul(x, wq)
            pk = MatMul(x, wk)
            pv = MatMul(x, wv)
            sq = Reshape(pq, split)
            sk = Reshape(pk, keys)
            sv = Reshape(pv, keys)
            q = Transpose<perm = [0, 2, 1, 3]>(sq)
            k = Transpose<perm = [0, 2, 1, 3]>(sk)
            v = Transpose<perm = [0, 2, 1, 3]>(sv)
            {body}
            t = Transpose<perm = [0, 2, 1, 3]>(o)
            r = Reshape(t, join)
            y = MatMul(r, wo)
        }}"""
    return parse(text, constants=constants)
