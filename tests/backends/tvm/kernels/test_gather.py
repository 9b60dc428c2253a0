"""Rows picked from tables, against numpy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import gather
from gcompile.backends.tvm.kernels.gather import GatherKernel
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output, Source
from gcompile.errors import CompileError
from tests.backends.tvm.kernels.compiling import Array, run, with_halo


def _kernel(
    tables: int, rows: int, channels: int, count: int, dtype: str = "float32"
) -> GatherKernel:
    return GatherKernel(
        output=Output(Image(1, tables, count, channels, dtype)),
        expression=Accumulator(),
        x=Source(Image(1, tables, rows, channels, dtype)),
        index_shape=(count,),
    )


def _picked(kernel: GatherKernel, indices: Array) -> tuple[Array, Array]:
    image = kernel.x.image
    size = (1, image.height, image.width, image.channels)
    table = with_halo(image, np.random.default_rng(0).integers(0, 100, size))
    stored = run(gather.emit(kernel, "gather"), [table, indices], kernel.output)
    return table[0], stored[0]


@settings(max_examples=8, deadline=None, derandomize=True, database=None)
@given(
    tables=st.integers(1, 3),
    rows=st.integers(1, 9),
    channels=st.sampled_from([37, 1, 4, 64, 130]),
    count=st.integers(1, 12),
    dtype=st.sampled_from(["float32", "bfloat16", "uint8", "int8", "float16"]),
    index_dtype=st.sampled_from(["int64", "int32"]),
    threads=st.integers(1, 3),
)
def test_rows_of_any_length_are_picked_from_either_end(
    tables: int,
    rows: int,
    channels: int,
    count: int,
    dtype: str,
    index_dtype: str,
    threads: int,
) -> None:
    kernel = replace(
        _kernel(tables, rows, channels, count, dtype), threads=threads, index_dtype=index_dtype
    )
    indices = np.random.default_rng(1).integers(-rows, rows, count).astype(index_dtype)
    table, stored = _picked(kernel, indices)
    np.testing.assert_array_equal(stored, table[:, indices])


def test_numbers_beyond_the_table_read_its_first_and_last_row() -> None:
    indices = np.array([5, -6, 2**40, -(2**40)])
    table, stored = _picked(_kernel(2, 5, 3, 4), indices)
    np.testing.assert_array_equal(stored, table[:, [4, 0, 4, 0]])


def test_tables_of_another_width_are_refused() -> None:
    kernel = _kernel(2, 5, 3, 4)
    wider = replace(kernel, x=Source(Image(1, 2, 5, 4)))
    with pytest.raises(CompileError, match="Only rows are picked"):
        gather.code(wider)
