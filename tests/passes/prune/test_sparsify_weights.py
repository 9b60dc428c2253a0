from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile import ir, testing
from gcompile.errors import UsageError
from gcompile.passes import parse_pipeline
from gcompile.passes.base import NO_SAVING
from gcompile.passes.prune.sparsify_weights import Pattern, SparsifyWeights
from tests.passes.precision.models import CONV_CHAIN, fused

ANY = SparsifyWeights(pattern=Pattern.UNSTRUCTURED)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 9), st.integers(1, 7), st.integers(0, 2**16))
def test_two_of_every_four_stay_and_they_are_the_largest(k: int, n: int, seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((4 * k, n))
    groups = np.abs(weights).reshape(k, 4, n)
    mask = SparsifyWeights().mask(weights).reshape(k, 4, n)
    assert (mask.sum(axis=1) == 2).all()
    least_kept = np.where(mask, groups, np.inf).min(axis=1)
    assert (least_kept >= np.where(mask, 0.0, groups).max(axis=1)).all()


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 20), st.integers(1, 20), st.floats(0, 0.99), st.integers(0, 2**16))
def test_the_share_asked_for_goes(k: int, n: int, ratio: float, seed: int) -> None:
    weights = np.random.default_rng(seed).standard_normal((k, n))
    mask = SparsifyWeights(Pattern.UNSTRUCTURED, ratio).mask(weights)
    assert (~mask).sum() == int(ratio * k * n)
    if mask.any() and not mask.all():
        assert np.abs(weights[mask]).min() >= np.abs(weights[~mask]).max()


@pytest.mark.parametrize("pattern", Pattern)
def test_where_no_unit_skips_zeros_it_is_undone_and_says_so(pattern: Pattern) -> None:
    model = fused(CONV_CHAIN)
    before = [ir.constant_array(v) for v in model.graph.initializers.values()]
    record = testing.check_pass(SparsifyWeights(pattern), model)
    after = [ir.constant_array(v) for v in model.graph.initializers.values()]
    assert not record.kept
    assert record.changed == 0
    assert record.skipped[NO_SAVING] >= 1
    assert record.after.total == record.before.total
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_masked_weights_stay_masked() -> None:
    model, ctx = fused(CONV_CHAIN), testing.example_context()
    assert ANY.run(model, ctx) == 3
    assert ANY.run(model, ctx) == 0
    zeros = sum(
        int((array == 0).sum())
        for value in model.graph.initializers.values()
        if (array := ir.constant_array(value)) is not None and array.ndim > 1
    )
    assert zeros == 8 * 27 // 2 + 8 * 72 // 2 + 8 * 5 // 2


def test_refusals_have_reasons() -> None:
    model, ctx = fused(CONV_CHAIN), testing.example_context()
    SparsifyWeights().run(model, ctx)
    assert {reason for _, reason in ctx.skipped} == {
        "it is a grouped convolution",
        "it reads 3 channels, no multiple of 4",
    }
    with pytest.raises(UsageError, match="must be at least 0"):
        SparsifyWeights(ratio=1.0)


def test_it_is_written_on_the_command_line() -> None:
    (parsed,) = parse_pipeline("sparsify-weights{pattern=2:4}").passes
    assert parsed == SparsifyWeights()
    (parsed,) = parse_pipeline("sparsify-weights{pattern=unstructured,ratio=0.9}").passes
    assert parsed == SparsifyWeights(Pattern.UNSTRUCTURED, 0.9)
