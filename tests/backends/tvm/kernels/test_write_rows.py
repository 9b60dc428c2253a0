"""Rows written over those of a tensor, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import write_rows
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Source
from gcompile.backends.tvm.kernels.write_rows import WriteRowsKernel
from gcompile.errors import CompileError
from tests.backends.tvm.kernels.compiling import Array, run, with_halo


def _kernel(
    lines: int, rows: int, channels: int, count: int, dtype: str = "float32"
) -> WriteRowsKernel:
    return WriteRowsKernel(
        output=Output(Image(1, lines, rows, channels, dtype)),
        expression=Accumulator(),
        x=Source(Image(1, lines, count, channels, dtype)),
        index_shape=(count,),
    )


def _written(kernel: WriteRowsKernel, indices: Array) -> tuple[Array, Array]:
    """What is written, and the rows after it; those that are not written hold the filling."""
    image = kernel.x.image
    size = (1, image.height, image.width, image.channels)
    x = with_halo(image, np.random.default_rng(0).integers(0, 100, size))
    return x[0], run(write_rows.emit(kernel, "write"), [x, indices], kernel.output)[0]


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(
    lines=st.integers(1, 4),
    rows=st.integers(1, 9),
    channels=st.sampled_from([37, 1, 4, 64, 130]),
    dtype=st.sampled_from(["float32", "bfloat16", "uint8", "int8", "float16"]),
    index_dtype=st.sampled_from(["int64", "int32"]),
    threads=st.integers(1, 3),
    data=st.data(),
)
def test_rows_are_written_from_either_end_and_others_stay(
    lines: int,
    rows: int,
    channels: int,
    dtype: str,
    index_dtype: str,
    threads: int,
    data: st.DataObject,
) -> None:
    places = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, unique=True))
    kernel = replace(
        _kernel(lines, rows, channels, len(places), dtype),
        threads=threads,
        index_dtype=index_dtype,
    )
    indices = np.array(places, index_dtype)
    indices[::2] -= rows
    x, stored = _written(kernel, indices)
    np.testing.assert_array_equal(stored[:, places], x)
    _, untouched = _written(
        replace(kernel, index_shape=(len(places),)), np.full_like(indices, rows)
    )
    others = [row for row in range(rows) if row not in places]
    np.testing.assert_array_equal(stored[:, others], untouched[:, others])


def test_the_later_of_two_rows_for_one_place_stays() -> None:
    x, stored = _written(_kernel(2, 5, 3, 3), np.array([1, 4, 1]))
    np.testing.assert_array_equal(stored[:, [1, 4]], x[:, [2, 1]])


def test_numbers_beyond_the_rows_write_nothing() -> None:
    x, stored = _written(_kernel(1, 5, 3, 3), np.array([5, -6, 0]))
    np.testing.assert_array_equal(stored[:, 0], x[:, 2])
    assert not (stored[:, 1:] == x[:, :1]).all(axis=-1).any()


def test_rows_of_another_width_are_refused() -> None:
    kernel = _kernel(2, 5, 3, 4)
    with pytest.raises(CompileError, match="Only rows are written"):
        write_rows.code(replace(kernel, x=Source(Image(1, 2, 4, 4))))
