"""Attention on tensor cores, interpreted, against float64; and what the compiler makes of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.attention import Attention, Mask, Stored
from gcompile.backends.cuda.kernels.attention_program import AttentionProgram
from gcompile.backends.cuda.program.interpret import interpret
from gcompile.ir.attention import Rows
from tests.backends.cuda.disassembly import compiled, instructions
from tests.backends.cuda.kernels.products import Array

_TYPES = {"f16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
_ULPS = {"f16": 2**-9, "bf16": 2**-6}


def _attention(
    element: str, queries: int, keys: int, depth: int, causal: bool = False, key_heads: int = 1
) -> Attention:
    """Two sequences of two heads, each head by itself."""

    def rows(heads: int, count: int) -> Rows:
        return Rows(heads * count * depth, count * depth, depth)

    layout = rows(2, queries), rows(key_heads, keys), rows(key_heads, keys), rows(2, queries)
    scale = depth**-0.5
    return Attention(
        "attend", element, 2, 2, key_heads, queries, keys, depth, scale, causal, layout
    )


def _tensors(what: Attention) -> list[Array]:
    rng = np.random.default_rng(what.keys)
    shapes = [
        (what.batch, heads, count, what.depth)
        for heads, count in (
            (what.heads, what.queries),
            (what.key_heads, what.keys),
            (what.key_heads, what.keys),
        )
    ]
    return [rng.standard_normal(s).astype(_TYPES[what.element]) for s in shapes]


def _exact(what: Attention, q: Array, k: Array, v: Array, mask: Array | None = None) -> Array:
    k, v = (np.repeat(t, what.heads // what.key_heads, 1).astype(np.float64) for t in (k, v))
    weights = q.astype(np.float64) @ k.swapaxes(-1, -2) * what.scale
    if mask is not None:
        weights = weights + mask
    if what.causal:
        ahead = np.arange(what.keys) > np.arange(what.queries)[:, None] + what.keys - what.queries
        weights = np.where(ahead, -np.inf, weights)
    powers = np.exp(weights - weights.max(-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True) @ v)


def _run(what: Attention, mask: Array | None = None) -> tuple[Array, Array]:
    q, k, v = _tensors(what)
    o = np.zeros_like(q)
    masks = [] if mask is None else [mask]
    run = interpret(AttentionProgram(what).program(), [q, k, v, *masks, o])
    assert run.conflicts["ldmatrix"] == 0
    return o.astype(np.float64), _exact(what, q, k, v, mask)


@settings(max_examples=12, deadline=None)
@given(
    element=st.sampled_from(("f16", "bf16", "f16-75")),
    queries=st.integers(1, 80),
    keys=st.integers(1, 150),
    depth=st.sampled_from((8, 32, 40, 64, 80, 128)),
    key_heads=st.integers(1, 2),
)
def test_queries_attend_to_all_keys(
    element: str, queries: int, keys: int, depth: int, key_heads: int
) -> None:
    what = _attention(element.removesuffix("-75"), queries, keys, depth, key_heads=key_heads)
    if element.endswith("-75"):
        what = replace(what, arch=75, block_keys=32)
    actual, exact = _run(what)
    np.testing.assert_allclose(actual, exact, atol=2 * _ULPS[what.element])


@pytest.mark.parametrize(("queries", "keys"), [(70, 70), (20, 130), (1, 65)])
def test_queries_do_not_see_what_comes_after_them(queries: int, keys: int) -> None:
    what = _attention("f16", queries, keys, 64, causal=True)
    for arch in (75, 80):
        actual, exact = _run(replace(what, arch=arch))
        np.testing.assert_allclose(actual, exact, atol=4e-3)


@pytest.mark.parametrize("shape", [(2, 2, 33, 70), (1, 1, 33, 70), (2, 1, 1, 70)])
def test_a_mask_is_added_to_the_weights(shape: tuple[int, int, int, int]) -> None:
    mask = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    mask[..., ::7] = -np.inf
    what = replace(_attention("f16", 33, 70, 32), mask=Mask(shape))
    actual, exact = _run(what, mask)
    np.testing.assert_allclose(actual, exact, atol=4e-3)


def test_heads_may_lie_side_by_side_in_each_vector() -> None:
    """(batch, sequence, heads · depth), as projections write them."""
    batch, heads, count, depth = 2, 2, 40, 32
    rows = Rows(count * heads * depth, depth, heads * depth)
    what = replace(_attention("f16", count, count, depth, key_heads=2), rows=(rows,) * 4)
    separate = _tensors(what)
    q, k, v = (np.ascontiguousarray(t.swapaxes(1, 2)) for t in separate)
    o = np.zeros((batch, count, heads, depth), np.float16)
    interpret(AttentionProgram(what).program(), [q, k, v, o])
    np.testing.assert_allclose(o.swapaxes(1, 2), _exact(what, *separate), atol=4e-3)


def test_queries_from_which_all_is_hidden_attend_to_all_alike() -> None:
    """The most negative number swallows the weight it is added to: all become the same."""
    mask = np.full((2, 1, 33, 70), np.finfo(np.float32).min, np.float32)
    mask[0] = 0
    what = replace(_attention("f16", 33, 70, 32), mask=Mask(mask.shape))
    actual, _ = _run(what, mask)
    v = _tensors(what)[2].astype(np.float64)
    np.testing.assert_allclose(actual[1], v[1].mean(1, keepdims=True) + 0 * actual[1], atol=4e-3)


@pytest.mark.parametrize("zero_if_hidden", [False, True])
def test_queries_that_see_no_key_give_zeros_where_that_is_asked(zero_if_hidden: bool) -> None:
    mask = np.zeros((2, 1, 1, 70), np.float32)
    mask[1] = -np.inf
    what = replace(
        _attention("bf16", 5, 70, 32), mask=Mask(mask.shape), zero_if_hidden=zero_if_hidden
    )
    q, k, v = _tensors(what)
    o = np.zeros_like(q)
    interpret(AttentionProgram(what).program(), [q, k, v, mask, o])
    assert np.all(np.isfinite(o[0].astype(np.float32)))
    hidden = o[1].astype(np.float32)
    assert np.all(hidden == 0) if zero_if_hidden else np.all(np.isnan(hidden))


def test_queries_keys_and_values_may_lie_in_one_tensor() -> None:
    """(sequence, 3, heads, depth), as one projection writes them."""
    heads, count, depth = 2, 20, 16
    rng = np.random.default_rng(0)
    tensor = rng.standard_normal((count, 3, heads, depth)).astype(np.float16)
    q, k, v = (Rows(0, depth, 3 * heads * depth, i * heads * depth) for i in range(3))
    what = replace(
        _attention("f16", count, count, depth, key_heads=2),
        batch=1,
        rows=(q, k, v, Rows(0, count * depth, depth)),
    )
    o = np.zeros((heads, count, depth), np.float16)
    program = AttentionProgram(what).program()
    flat = tensor.reshape(-1)
    interpret(program, [*(flat[: b.elements] for b in program.buffers[:3]), o])
    parts = (tensor[:, i].swapaxes(0, 1)[None] for i in range(3))
    np.testing.assert_allclose(o, _exact(what, *parts)[0], atol=4e-3)


@pytest.mark.parametrize(
    ("queries", "keys", "depth", "arch"), [(20, 70, 32, 80), (65, 33, 40, 80), (65, 70, 40, 75)]
)
def test_integers_are_decoded_on_the_way(queries: int, keys: int, depth: int, arch: int) -> None:
    stored = (
        Stored("uint8", 0.02, 128),
        Stored("int8", 0.03, -3),
        Stored("uint8", 0.01, 7),
        Stored("int8", 0.008, -20),
    )
    what = _attention("f16", queries, keys, depth, key_heads=2)
    what = replace(what, stored=stored, arch=arch)
    rng = np.random.default_rng(0)
    arrays = []
    for buffer, how in zip(what.buffers, stored, strict=True):
        info = np.iinfo(how.storage)
        arrays.append(rng.integers(info.min, info.max + 1, buffer.elements).astype(how.storage))
    numbers = np.array(what.numbers, np.float32)
    program = AttentionProgram(what.without_numbers).program()
    interpret(program, [*arrays[:3], numbers, arrays[3]])
    q, k, v, o = (
        (array.astype(np.float64) - how.zero_point).reshape(2, 2, -1, depth) * how.scale
        for array, how in zip(arrays, stored, strict=True)
    )
    exact = _exact(what, q, k, v)
    step = stored[3].scale
    held = np.minimum(np.maximum(exact, (-128 + 20) * step), (127 + 20) * step)
    np.testing.assert_allclose(o, held, atol=0.51 * step + 2e-3)


@pytest.mark.parametrize("depth", [64, 128])
def test_attention_uses_tensor_cores_without_spills(depth: int, tmp_path: Path) -> None:
    what = _attention("bf16", 512, 512, depth, causal=True)
    code = compiled(AttentionProgram(what).program(), "80")
    assert code.spilled_bytes == 0
    found = instructions(code, tmp_path)
    assert found["HMMA"] == 2 * (depth // 16) * 8
    assert found["LDSM"] > 0


@pytest.mark.parametrize(("depth", "block_keys"), [(64, 64), (128, 32)])
def test_attention_on_sm_75_needs_no_copies_past_the_registers(
    depth: int, block_keys: int, tmp_path: Path
) -> None:
    what = _attention("f16", 512, 512, depth, causal=True)
    program = AttentionProgram(replace(what, arch=75, block_keys=block_keys)).program()
    assert program.shared_bytes <= 65536
    code = compiled(program, "75")
    assert code.spilled_bytes == 0
    found = instructions(code, tmp_path)
    assert found["HMMA"] == 2 * 2 * (depth // 16) * block_keys // 8
    assert found["LDGSTS"] == 0


@pytest.mark.parametrize(("element", "depth"), [("f16", 36), ("tf32", 64)])
def test_what_no_kernel_does_is_refused(element: str, depth: int) -> None:
    with pytest.raises(ValueError, match=r"8n elements|fp16 and bf16"):
        _attention(element, 16, 16, depth)
