"""Images put side by side, interpreted, against exact integers and float64."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.cuda.kernels.epilogue import Epilogue
from gcompile.backends.cuda.kernels.join_channels import JoinChannels
from gcompile.backends.cuda.lowering.join_anchor import whole_arrays
from gcompile.backends.cuda.program.interpret import interpret
from gcompile.backends.cuda.program.program import Storage
from gcompile.backends.tvm.kernels.spec import (
    Accumulator,
    Binary,
    Constant,
    Image,
    Output,
    PerChannel,
    Source,
)

_TYPES: dict[Storage, Any] = {
    "float16": np.float16,
    "bfloat16": ml_dtypes.bfloat16,
    "float32": np.float32,
    "int8": np.int8,
    "uint8": np.uint8,
}


@settings(max_examples=20, deadline=None)
@given(
    images=st.lists(
        st.tuples(
            st.sampled_from(sorted(_TYPES)), st.integers(1, 3), st.sampled_from((1, 4, 8, 24))
        ),
        min_size=1,
        max_size=4,
    ),
    pixels=st.tuples(st.integers(1, 2), st.integers(1, 5), st.integers(1, 7)),
)
def test_images_of_any_types_and_channels(
    images: list[tuple[Storage, int, int]], pixels: tuple[int, int, int]
) -> None:
    """Each has a factor of its own, and all of them a bias for each channel."""
    rng = np.random.default_rng(len(images))
    storages = tuple(storage for storage, _, _ in images)
    channels = tuple(count * width for _, count, width in images)
    factors = [2.0**k for k in range(len(images))]
    read = [
        rng.integers(0, 100, (*pixels, count)).astype(_TYPES[storage])
        for storage, count in zip(storages, channels, strict=True)
    ]
    bias = rng.integers(-9, 9, sum(channels)).astype(np.float32)
    output = Output(Image(*pixels, sum(channels), "float32"))
    epilogues = tuple(
        Epilogue(
            output,
            Binary("add", Binary("mul", Accumulator(), Constant(factor)), PerChannel(0)),
            (),
            1,
        )
        for factor in factors
    )
    join = JoinChannels("join", storages, channels, epilogues)
    y = np.zeros((*pixels, sum(channels)), np.float32)
    interpret(join.program(), [*read, bias, y])
    exact = np.concatenate(
        [x.astype(np.float64) * f for x, f in zip(read, factors, strict=True)], -1
    )
    np.testing.assert_array_equal(y, exact + bias)
    whole = np.zeros(y.size, np.float32)
    whole_arrays(join)([*(x.reshape(-1) for x in read), bias, whole])
    np.testing.assert_array_equal(whole, y.reshape(-1))


def test_channels_are_those_of_all_images() -> None:
    epilogue = Epilogue(Output(Image(1, 2, 2, 9, "int8")), Accumulator())
    with pytest.raises(ValueError, match="channels of all images"):
        JoinChannels("join", ("int8", "int8"), (4, 4), (epilogue, epilogue))


def test_what_follows_reads_no_image() -> None:
    image = Image(1, 2, 2, 8, "int8")
    epilogue = Epilogue(Output(image), Accumulator(), (Source(image),))
    with pytest.raises(ValueError, match="no image"):
        JoinChannels("join", ("int8", "int8"), (4, 4), (epilogue, epilogue))
