from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from gcompile import ir, testing
from gcompile.errors import UsageError
from gcompile.passes.prune.groups import Group, prune_groups
from gcompile.passes.prune.remove import remove, values_by_name
from tests.passes.prune.networks import networks
from tests.passes.rewriting import parse


def prunable(model: ir.Model) -> list[Group]:
    return [group for group in prune_groups(model) if group.reason is None]


def zero_out(model: ir.Model, group: Group, keep: list[int]) -> None:
    """Set every weight of the channels that are not kept to zero."""
    values = values_by_name(model)
    gone = np.setdiff1d(np.arange(group.size), keep)
    for member in group.members:
        value = values[member.value]
        array = ir.constant_array(value)
        if array is not None:
            zeroed = np.moveaxis(array.copy(), member.axis, 0)
            zeroed[member.places[gone].reshape(-1)] = 0
            whole = np.ascontiguousarray(np.moveaxis(zeroed, 0, member.axis))
            value.const_value = ir.tensor(whole, name=value.name)


@settings(
    deadline=None, max_examples=100, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(networks(), st.integers(0, 2**16))
def test_removing_channels_whose_weights_are_zero_changes_no_bit(
    model: ir.Model, seed: int
) -> None:
    groups, draw = prunable(model), random.Random(seed)
    assume(groups)
    choices = []
    for group in draw.sample(groups, draw.randint(1, len(groups))):
        keep = sorted(draw.sample(range(group.size), draw.randint(1, group.size)))
        zero_out(model, group, keep)
        choices.append((group, keep))
    numbers = np.random.default_rng(0).integers(-2, 3, ir.static_shape(model.graph.inputs[0]))
    inputs = {"x": numbers.astype(np.float32)}
    expected = testing.run(model, inputs)
    kept = remove(model, choices)
    ir.verify(model)
    np.testing.assert_array_equal(testing.run(model, inputs)["y"], expected["y"])
    values = values_by_name(model)
    for (name, axis), indices in kept.items():
        if name in values:
            assert ir.static_shape(values[name])[axis] == len(indices)


def test_a_group_of_another_model_is_refused() -> None:
    text = """
        g (float[1,3] x) => (float[1,2] y) <float[3,4] v = {1,2,3,4,5,6,7,8,9,10,11,12},
        float[4,2] w = {1,2,3,4,5,6,7,8}> {
            h = MatMul(x, v)
            y = MatMul(h, w)
        }"""
    model = parse(text)
    (group,) = prunable(model)
    remove(model, [(group, [0, 3])])
    with pytest.raises(UsageError, match="find the groups again"):
        remove(model, [(group, [0])])
    with pytest.raises(UsageError, match="keep at least one"):
        remove(model, [(prunable(model)[0], [])])
