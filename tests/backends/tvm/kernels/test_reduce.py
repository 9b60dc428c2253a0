"""Reductions over any axes, against float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import reduce
from gcompile.backends.tvm.kernels.reduce import ReduceKernel
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Image,
    Load,
    Output,
    PerChannel,
    Source,
    Unary,
)
from gcompile.errors import CompileError
from tests.backends.tvm.kernels.compiling import Array, inside, run, with_halo

_NUMPY: dict[str, Callable[..., Array]] = {
    "sum": np.sum,
    "max": np.max,
    "min": np.min,
    "product": np.prod,
}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    extents=st.tuples(
        st.integers(1, 3), st.integers(1, 4), st.integers(1, 5), st.integers(1, 150)
    ),
    reduced=st.tuples(*[st.booleans()] * 4),
    function=st.sampled_from(sorted(_NUMPY)),
    halo=st.tuples(*[st.integers(0, 1)] * 4),
    bits=st.sampled_from([128, 256, 512]),
    threads=st.integers(1, 3),
)
def test_any_axes_are_reduced(
    extents: tuple[int, int, int, int],
    reduced: tuple[bool, ...],
    function: str,
    halo: tuple[int, int, int, int],
    bits: int,
    threads: int,
) -> None:
    axes = tuple(axis for axis, is_reduced in enumerate(reduced) if is_reduced)
    kept = [1 if axis in axes else extent for axis, extent in enumerate(extents)]
    image = Image(kept[0], kept[1], kept[2], kept[3], halo=halo, fill=2.0)
    source = Image(*extents, halo=(1, 0, 0, 1), fill=1e6)
    kernel = ReduceKernel(
        output=Output(image),
        expression=Accumulator(),
        sources=(Source(source),),
        vector_bits=bits,
        threads=threads,
        extents=extents,
        function=function,
    )
    rng = np.random.default_rng(extents[3])
    x = rng.uniform(0.9, 1.1, extents) * rng.choice([-1, 1], extents)
    stored_x = with_halo(source, x)
    stored = run(reduce.emit(kernel, "reduce"), [stored_x], kernel.output)
    rounded = inside(source, stored_x).astype(np.float64)
    expected = _NUMPY[function](rounded, axis=axes, keepdims=True)
    np.testing.assert_allclose(inside(image, stored), expected, rtol=3e-5, atol=3e-5)
    np.testing.assert_array_equal(stored, with_halo(image, inside(image, stored)))


@pytest.mark.parametrize("axis", [2, 3])
def test_norms_and_means_are_sums_between_two_expressions(axis: int) -> None:
    extents = (1, 1, 37, 45)
    kept = [1 if place == axis else extent for place, extent in enumerate(extents)]
    image = Image(kept[0], kept[1], kept[2], kept[3])
    source = Source(Image(*extents, "int8"), 0.5, 3)
    norm = Unary("sqrt", Binary("mul", Accumulator(), Constant(1 / extents[axis])))
    kernel = ReduceKernel(
        output=Output(image),
        expression=Binary("mul", norm, PerChannel(0)),
        sources=(source,),
        channel_vectors=1,
        operand=Binary("mul", Load(0), Load(0)),
        extents=extents,
    )
    rng = np.random.default_rng(1)
    x = rng.integers(-128, 128, extents, dtype=np.int8)
    factor = rng.standard_normal(kept[3]).astype(np.float32)
    stored = run(reduce.emit(kernel, "reduce"), [factor, x], kernel.output)
    real = (x.astype(np.float64) - 3) * 0.5
    expected = np.sqrt(np.square(real).mean(axis=axis, keepdims=True)) * factor
    np.testing.assert_allclose(stored, expected, rtol=1e-5)


def test_an_output_of_another_size_is_refused() -> None:
    kernel = ReduceKernel(
        output=Output(Image(1, 1, 3, 4)), expression=Accumulator(), extents=(1, 1, 5, 4)
    )
    with pytest.raises(CompileError, match="either kept or becomes 1"):
        reduce.code(kernel)
