"""Groups of a convolution as groups of the kernel."""

from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir
from gcompile.backends.cuda.lowering.grouped import groups_of, joined_groups, one_group


def _convolution(groups: int, inputs: int, outputs: int) -> ir.Contraction:
    return ir.Contraction(1, 8, 8, inputs, 8, 8, outputs, 1, 1, groups=groups)


@pytest.mark.parametrize(
    ("groups", "inputs", "outputs", "expected"),
    [(4, 64, 64, 4), (32, 128, 128, 8), (3, 12, 12, 1), (1, 8, 8, 1), (6, 24, 60, 3)],
)
def test_groups_of_fewer_than_16_outputs_are_joined(
    groups: int, inputs: int, outputs: int, expected: int
) -> None:
    shape = _convolution(groups, inputs, outputs)
    assert groups_of(shape) == expected
    one = one_group(shape, expected, inputs)
    assert (one.in_c, one.out_c, one.groups) == (inputs // expected, outputs // expected, 1)


def test_an_output_sees_the_inputs_of_its_own_group_alone() -> None:
    weights = np.arange(1, 13, dtype=np.int8).reshape(6, 2, 1, 1)
    joined = joined_groups(weights, 3, 1)
    assert joined.shape == (6, 6, 1, 1)
    for output in range(6):
        group = output // 2
        row = joined[output, :, 0, 0]
        np.testing.assert_array_equal(row[2 * group : 2 * group + 2], weights[output, :, 0, 0])
        assert np.count_nonzero(row) == 2
