"""Every kernel compiled for every instruction set of this machine, against float64.

Products are in the tests of their own kernels: there each unit is compiled for what it needs.
"""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels.units import unit_named
from tests.backends.tvm.kernels.cases import CASES, Case, as_stored
from tests.backends.tvm.kernels.compiling import Array, call, inside, target, with_halo
from tests.backends.tvm.kernels.machine import machine_for, skip_unless_runnable

INSTRUCTION_SETS = ("avx2", "avx-vnni", "avx512", "avx512-vnni", "avx512-bf16")
"""Each by the unit that needs all of it."""

_ROUNDING = {"float32": 2e-5, "float16": 1e-3, "bfloat16": 8e-3}


@pytest.mark.parametrize("instructions", INSTRUCTION_SETS)
@pytest.mark.parametrize("kind", CASES)
@settings(max_examples=2, deadline=None, database=None, derandomize=True)
@given(data=st.data())
def test_a_kernel_is_right_with_every_instruction_set(
    kind: str, instructions: str, data: st.DataObject
) -> None:
    skip_unless_runnable(instructions)
    bits = unit_named(instructions).vector_bits
    cases = {
        dtype: CASES[kind](data.draw, dtype, bits)
        for dtype in ("float32", "bfloat16", "float16", "uint8")
    }
    functions = {name: case.code.function(name) for name, case in cases.items()}
    machine = target(*machine_for(instructions))
    compiled = tvm.compile(tvm.IRModule(functions), target=machine)
    for name, case in cases.items():
        _compare(case, call(compiled[name], list(case.inputs), case.output))


def _compare(case: Case, stored: Array) -> None:
    image = case.output.image
    actual, expected = inside(image, stored), as_stored(case.output, case.expected)
    if image.dtype == "uint8":
        assert np.abs(actual - expected).max() <= 1
    else:
        rounding = _ROUNDING[image.dtype]
        reals = actual.astype(np.float64)
        np.testing.assert_allclose(reals, expected, rtol=rounding, atol=rounding)
    np.testing.assert_array_equal(stored, with_halo(image, actual))
