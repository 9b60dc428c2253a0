"""Kernels of tensor functions, run on the CPU from their CUDA text, against float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import te, tirx, topi

from gcompile.backends.cuda.host_form import why_unavailable
from gcompile.backends.cuda.kernel import Access
from tests.backends.cuda.tensor_ir.running import kernels, placeholder, run

pytestmark = pytest.mark.skipif(bool(why_unavailable()), reason="no C++ compiler is installed")

_FEW = settings(max_examples=8, deadline=None)
_sizes = st.integers(1, 9)


def _rng(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@_FEW
@given(m=st.integers(1, 70), n=st.integers(1, 70), k=st.integers(1, 40), batch=st.integers(1, 3))
def test_matrix_products_of_any_size(m: int, n: int, k: int, batch: int) -> None:
    x, w = placeholder((batch, m, k)), placeholder((batch, n, k), "w")
    a, b = _rng(batch, m, k), _rng(batch, n, k, seed=1)
    got = run([x, w], topi.nn.batch_matmul(x, w), a, b)
    wide = a.astype(np.float64) @ b.astype(np.float64).swapaxes(1, 2)
    np.testing.assert_allclose(got, wide, atol=1e-4)


@_FEW
@given(
    channels=st.integers(1, 20),
    filters=st.integers(1, 40),
    size=st.integers(3, 14),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    pad=st.integers(0, 2),
)
def test_convolutions_with_what_follows_them(
    channels: int, filters: int, size: int, kernel: int, stride: int, pad: int
) -> None:
    x, w = (
        placeholder((2, channels, size, size)),
        placeholder((filters, channels, kernel, kernel), "w"),
    )
    sums = topi.nn.conv2d_nchw(x, w, stride, pad, 1)
    out = tuple(int(extent) for extent in sums.shape)
    r = placeholder(out, "r")
    a, c = _rng(2, channels, size, size), _rng(*out, seed=2)
    b = _rng(filters, channels, kernel, kernel, seed=1)
    got = run([x, w, r], topi.nn.relu(topi.add(sums, r)), a, b, c)
    padded = np.pad(a.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (kernel, kernel), (2, 3))
    exact = np.einsum("nchwyx,fcyx->nfhw", windows[:, :, ::stride, ::stride], b)
    np.testing.assert_allclose(got, np.maximum(exact + c, 0), atol=1e-3)


@pytest.mark.parametrize(("rows", "columns"), [(3, 7), (5, 700), (300, 17), (1, 1)])
def test_softmax(rows: int, columns: int) -> None:
    x = placeholder((rows, columns))
    a = 10 * _rng(rows, columns)
    raised = np.exp(a.astype(np.float64) - a.max(1, keepdims=True))
    got = run([x], topi.nn.softmax(x), a)
    np.testing.assert_allclose(got, raised / raised.sum(1, keepdims=True), atol=1e-6)


@_FEW
@given(shape=st.tuples(_sizes, st.integers(1, 600), _sizes), axis=st.integers(0, 2))
def test_reductions_over_any_axis(shape: tuple[int, int, int], axis: int) -> None:
    x, a = placeholder(shape), _rng(*shape)
    np.testing.assert_allclose(
        run([x], topi.sum(x, axis), a), a.astype(np.float64).sum(axis), atol=1e-4
    )
    np.testing.assert_array_equal(run([x], topi.max(x, axis), a), a.max(axis))
    np.testing.assert_array_equal(run([x], topi.min(x, axis), a), a.min(axis))
    np.testing.assert_array_equal(run([x], topi.argmax(x, axis), a), a.argmax(axis))


def test_a_block_adds_up_the_terms_of_few_long_rows_and_threads_those_of_columns() -> None:
    x = placeholder((4, 2000))
    (rows,) = kernels([x], topi.sum(x, 1))
    assert rows.kernel.grid == (4, 1, 1)
    assert "__shared__" in rows.kernel.source.rpartition("#endif")[2]
    y = placeholder((2000, 4))
    (columns,) = kernels([y], topi.sum(y, 0))
    assert "__shared__" not in columns.kernel.source.rpartition("#endif")[2]


@_FEW
@given(m=st.integers(1, 9), n=st.integers(1, 9), shift=st.integers(-20, 20))
def test_division_and_remainder_of_negative_numbers_round_down(m: int, n: int, shift: int) -> None:
    x = placeholder((m, n), dtype="int32")
    a = np.arange(m * n, dtype=np.int32).reshape(m, n) + shift
    seven = tirx.const(7, "int32")
    floored = te.compute((m, n), lambda i, j: tirx.floordiv(x[i, j], seven))
    rest = te.compute((m, n), lambda i, j: tirx.floormod(x[i, j], seven))
    np.testing.assert_array_equal(run([x], floored, a), a // 7)
    np.testing.assert_array_equal(run([x], rest, a), a % 7)


def test_indices_are_read_from_memory() -> None:
    x, i = placeholder((6, 3)), placeholder((2, 4), "i", "int64")
    a, at = _rng(6, 3), np.array([[0, 5, 2, 2], [1, 9, -3, 4]])
    got = run([x, i], topi.take(x, i, 0, mode="clip"), a, at)
    np.testing.assert_array_equal(got, a[at.clip(0, 5)])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_narrow_numbers_round_to_the_nearest(dtype: str) -> None:
    import ml_dtypes

    narrow = np.dtype(getattr(ml_dtypes, dtype, dtype))
    special = [0.0, -0.0, 65504.0, 1e-7, 3e38, np.inf, -np.inf, 1.00390625, 1.01171875]
    a = np.concatenate([np.array(special, np.float32), 100 * _rng(91)])
    x = placeholder((100,))
    once = te.compute((100,), lambda i: x[i].astype(dtype).astype("float32"))
    with np.errstate(over="ignore"):
        expected = a.astype(narrow).astype(np.float32)
    np.testing.assert_array_equal(run([x], once, a), expected)


def test_small_integers_wrap_around() -> None:
    x = placeholder((4,), dtype="uint8")
    a = np.array([250, 3, 255, 128], np.uint8)
    got = run([x], te.compute((4,), lambda i: (x[i] + x[i]).astype("int32")), a)
    np.testing.assert_array_equal(got, (a + a).astype(np.int32))


def test_a_kernel_says_what_it_reads_and_writes() -> None:
    x = placeholder((5, 6))
    (item,) = kernels([x], topi.exp(x))
    written, read = item.kernel.arguments
    assert (written.access, read.access) == (Access.WRITE, Access.READ)
    assert (written.size, written.dtype) == (30, "float32")
