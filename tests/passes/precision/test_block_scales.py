from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gcompile.passes.precision.block_scales import best_scales, largest_scales, nearest

Reals = NDArray[np.float64]


def _errors(blocks: Reals, scales: Reals, bits: int) -> Reals:
    stored = nearest(blocks, scales, bits) * scales[:, None]
    return np.asarray(((stored - blocks) ** 2).sum(axis=1))


def _searched(block: Reals, bits: int) -> float:
    """The least error of many scales; eight bits use their whole range."""
    scales = np.abs(block).max() / np.linspace(0.4 if bits == 4 else 126.5, 1 << bits, 4000)
    return float(_errors(np.broadcast_to(block, (len(scales), block.size)), scales, bits).min())


@settings(max_examples=25, deadline=None, database=None, derandomize=True)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 40), bits=st.sampled_from([4, 8]))
def test_no_scale_has_a_lower_error(seed: int, size: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    block = rng.standard_normal((1, size)) ** 3 * np.exp2(rng.uniform(-20, 20))
    error = _errors(block, best_scales(block, bits), bits)[0]
    rounding = 2.0**-11 * np.abs(block).max() * np.sqrt(size)  # That of the scale.
    assert np.sqrt(error) <= np.sqrt(_searched(block[0], bits)) + rounding


@pytest.mark.parametrize("bits", [4, 8])
def test_multiples_of_a_scale_are_kept(bits: int) -> None:
    limit = 1 << (bits - 1)
    blocks: Reals = np.random.default_rng(0).integers(-limit, limit, (20, 64)) / 4.0
    blocks[:, 0] = -limit / 4
    scales = best_scales(blocks, bits)
    np.testing.assert_array_equal(scales, 0.25)
    assert not _errors(blocks, scales, bits).any()


def test_zeros_stay_zero() -> None:
    scales = best_scales(np.zeros((2, 8)), 4)
    assert not nearest(np.zeros((2, 8)), scales, 4).any()
    assert (scales > 0).all()


def test_float16_holds_every_scale_of_common_size() -> None:
    blocks = np.random.default_rng(0).standard_normal((50, 32))
    scales = best_scales(blocks, 4)
    np.testing.assert_array_equal(scales.astype(np.float16), scales)


def test_many_blocks_are_looked_at_as_a_few_are() -> None:
    blocks = np.random.default_rng(0).standard_normal((40000, 16))
    np.testing.assert_array_equal(best_scales(blocks, 4)[-9:], best_scales(blocks[-9:], 4))


@pytest.mark.parametrize("bits", [4, 8])
def test_the_scale_of_the_largest_weight_clips_nothing(bits: int) -> None:
    blocks = np.random.default_rng(0).standard_normal((200, 32))
    scales, limit = largest_scales(blocks, bits), 1 << (bits - 1)
    steps = blocks / scales[:, None]
    assert -limit * (1 + 2**-11) <= steps.min() < steps.max() <= (limit - 1) * (1 + 2**-11)
    is_tight = np.maximum(steps.max(axis=1) / (limit - 1), steps.min(axis=1) / -limit)
    np.testing.assert_allclose(is_tight, 1, atol=2**-11)
    errors = _errors(blocks, scales, bits)
    assert errors.sum() > _errors(blocks, best_scales(blocks, bits), bits).sum()
    assert largest_scales(np.zeros((2, 8)), bits).tolist() == [1, 1]
