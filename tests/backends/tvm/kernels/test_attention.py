"""Attention in blocks, against float64, over sizes that no block divides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import attention
from gcompile.backends.tvm.kernels.attention import AttentionKernel
from gcompile.backends.tvm.kernels.attention_rows import Mask
from gcompile.backends.tvm.kernels.matrices import Matrices
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Source
from gcompile.backends.tvm.kernels.units import unit_named
from gcompile.energy.attention import attention_block
from gcompile.errors import CompileError
from gcompile.ir.tile import Tile
from tests.backends.tvm.kernels.attention_kernels import heads_of, kernels, masked, run_attention
from tests.backends.tvm.kernels.compiling import Array, compile_function
from tests.backends.tvm.kernels.examples import few

UNITS = (
    "generic", "avx2", "avx512", "generic-bf16", "avx512-bf16", "avx2-fp16-widened",
    "avx512-fp16-widened", "amx-bf16",
)  # fmt: skip
SAPPHIRE_RAPIDS = ("sapphirerapids", ("+amx-tile", "+amx-bf16"))
FEW = few()
_TOLERANCE = {"float32": 2e-6, "float16": 2.0**-9, "bfloat16": 2.0**-6}


@pytest.mark.parametrize("unit", UNITS)
@FEW
@given(data=st.data())
def test_attention_of_any_layout_agrees_with_float64(unit: str, data: st.DataObject) -> None:
    kernel = data.draw(kernels(unit))
    inputs = _inputs(kernel)
    found, expected = run_attention(kernel, inputs), _expected(kernel, inputs)
    narrow = {unit_named(unit).x_dtype, kernel.output.image.dtype}
    tolerance = max(_TOLERANCE[dtype] for dtype in narrow)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=2 * tolerance)


def _plain(queries: int = 9, keys: int = 40) -> AttentionKernel:
    image, other = Image(1, 1, queries, 8), Image(1, 1, keys, 8)
    q, k = Matrices.in_image(image, 8), Matrices.in_image(other, 8)
    return AttentionKernel(
        Output(image), Accumulator(), queries=q, keys=k, values=k, written=q,
        tile=Tile("generic", 3, 2, outer="n"), block=(3, 16),
    )  # fmt: skip


def test_scores_that_would_overflow_do_not() -> None:
    kernel = replace(_plain(), scale=1e30)
    inputs = _inputs(kernel)
    np.testing.assert_allclose(run_attention(kernel, inputs), _expected(kernel, inputs), rtol=1e-6)


@pytest.mark.parametrize("zero", [False, True])
def test_queries_that_see_no_key_give_nan_or_zero(zero: bool) -> None:
    mask = Source(Image(1, 1, 9, 40))
    kernel = replace(_plain(), sources=(mask,), masks=(Mask(),), zero_if_hidden=zero)
    inputs = _inputs(kernel)
    inputs[3][:] = 0
    inputs[3][0, 0, 4] = -np.inf
    inputs[3][0, 0, 5, :33] = -np.inf
    found, expected = run_attention(kernel, inputs), _expected(kernel, inputs)
    others = np.arange(9) != 4
    np.testing.assert_allclose(found[:, :, others], expected[:, :, others], rtol=1e-5, atol=1e-6)
    assert (not found[0, 0, 4].any()) if zero else np.isnan(found[0, 0, 4]).all()


def test_a_nan_stays_with_its_query() -> None:
    kernel = _plain()
    inputs = _inputs(kernel)
    inputs[0][0, 0, 3, 0] = np.nan
    found = run_attention(kernel, inputs)
    assert np.isnan(found[0, 0, 3]).all()
    assert not np.isnan(np.delete(found, 3, axis=2)).any()


@pytest.mark.parametrize(
    "changes",
    [
        {"tile": Tile("amx-bf16", 2, 2)},
        {"tile": Tile("amx-bf16", 3, 2)},
        {"tile": Tile("avx512-vnni", 2, 2)},
        {"tile": Tile("avx512-bf16", 3, 2)},
        {"block": (4, 16)},
        {"block": (3, 10)},
        {"block": (12, 16)},
        {"causal": True, "keys": Matrices(Image(1, 1, 4, 8), 4, 8)},
        {"values": Matrices(Image(1, 1, 41, 8), 41, 8)},
        {"queries": Matrices(Image(1, 1, 9, 8), 9, 8, heads=3),
         "keys": Matrices(Image(1, 1, 40, 8), 40, 8, heads=2),
         "values": Matrices(Image(1, 1, 40, 8), 40, 8, heads=2)},
    ],
)  # fmt: skip
def test_what_the_kernel_cannot_do_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(CompileError):
        attention.emit(replace(_plain(), **changes), "refused")


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 28))
def test_blocks_are_whole_register_blocks(queries: int, keys: int, rows: int) -> None:
    high, wide = attention_block(queries, keys, rows, 16)
    assert high <= min(48, queries)
    assert high % min(rows, queries) == 0
    assert wide % 16 == 0
    assert wide <= 256
    assert -(-keys // wide) * wide - keys < 16 * -(-keys // wide)


def test_tiles_are_configured_once_for_both_products() -> None:
    image = Image(1, 1, 96, 40, "bfloat16")
    vectors = Matrices.in_image(image, 40)
    kernel = AttentionKernel(
        Output(image), Accumulator(), queries=vectors, keys=vectors, values=vectors,
        written=vectors, tile=Tile("amx-bf16", 2, 2, outer="n"), block=(32, 96),
    )  # fmt: skip
    compiled = compile_function(attention.emit(kernel, "f"), *SAPPHIRE_RAPIDS)
    assembly = compiled.mod.inspect_source("asm")
    assert assembly.count("\tldtilecfg") == assembly.count("\ttilerelease") == 1
    for expected in ("tdpbf16ps", "tileloadd", "tilestored", "tilezero"):
        assert expected in assembly


def _inputs(kernel: AttentionKernel) -> list[Array]:
    rng = np.random.default_rng(kernel.queries.rows)
    found = []
    for matrices in (kernel.queries, kernel.keys, kernel.values):
        image = matrices.image
        numbers = rng.standard_normal(image.shape)
        found.append(_stored(numbers, image))
    for source in kernel.sources:
        drawn = rng.standard_normal(source.image.shape)
        found.append(_stored(drawn > 0 if source.image.dtype == "uint8" else drawn, source.image))
    return found


def _stored(numbers: Array, image: Image) -> Array:
    if image.dtype == "bfloat16":
        return numbers.astype(ml_dtypes.bfloat16).view(np.uint16)
    return numbers.astype(image.dtype)


def _expected(kernel: AttentionKernel, inputs: list[Array]) -> Array:
    operands = (kernel.queries, kernel.keys, kernel.values)
    q, k, v = (heads_of(*pair) for pair in zip(operands, inputs, strict=False))
    k, v = (np.repeat(x, q.shape[1] // x.shape[1], axis=1) for x in (k, v))
    scores = q @ k.swapaxes(-1, -2) * np.float32(kernel.scale)
    scores = masked(kernel, scores, inputs[3:])
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        result: Array = powers / powers.sum(-1, keepdims=True) @ v
    return result
