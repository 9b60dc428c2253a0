"""Single launches, and tests of kernels on a device; one without a GPU stands in for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tvm import topi

from gcompile.backends.cuda.kernel import Kernel
from gcompile.errors import RunError
from gcompile.runtime.cuda.driver import Driver
from gcompile.runtime.cuda.one_launch import launch_once
from gcompile.runtime.cuda.plan import PlannedKernel
from tests.backends.cuda.launches_of_tests import launches_kernels, observed
from tests.backends.cuda.on_gpu import OnGpu
from tests.backends.cuda.tensor_ir import running, test_kernels
from tests.backends.cuda.tensor_ir.running import placeholder
from tests.fake_gpu import FakeDriver
from tests.runtime.cuda.conftest import needs_nvrtc

pytestmark = needs_nvrtc

_X = np.arange(12, dtype=np.float32)


def _relu() -> Kernel:
    x = placeholder((12,))
    (found,) = running.kernels([x], topi.nn.relu(x - 5.0))
    return found.kernel


def test_a_test_judges_what_the_device_wrote(
    fake: FakeDriver, fake_library: Path, tmp_path: Path
) -> None:
    fake.know([_relu()], tmp_path)
    x = placeholder((12,))
    with observed(OnGpu(Driver(str(fake_library)))):
        result = running.run([x], topi.nn.relu(x - 5.0), _X)
    np.testing.assert_array_equal(result, np.maximum(_X - 5, 0))
    assert (fake.count("launches"), fake.count("loads")) == (1, 1)
    running.run([x], topi.nn.relu(x - 5.0), _X)
    assert fake.count("launches") == 1


def test_a_device_without_the_instructions_is_not_asked(
    fake: FakeDriver, fake_library: Path, tmp_path: Path
) -> None:
    kernel = _relu()
    fake.know([kernel], tmp_path)
    on_gpu = OnGpu(Driver(str(fake_library)))
    for other in (replace(kernel, only_arch="90a"), replace(kernel, least_arch=89)):
        on_gpu(other, [_X, _X], [_X, _X])
    assert fake.count("loads") == 0


def test_a_launch_that_writes_behind_an_argument_is_found(
    fake: FakeDriver, fake_library: Path, tmp_path: Path
) -> None:
    kernel = _relu()
    fake.know([kernel], tmp_path)
    planned = PlannedKernel(kernel.name, kernel.grid, kernel.block, 0)
    before = fake.count("live_allocations")
    short = [_X[:10].copy() for _ in kernel.arguments]
    with pytest.raises(RunError, match="wrote behind the end of an argument"):
        launch_once(Driver(str(fake_library)), 0, b"\x7fELF", planned, short)
    assert fake.count("live_allocations") == before


def test_only_modules_that_launch_kernels_run_twice() -> None:
    assert launches_kernels(test_kernels)
    assert not launches_kernels(np)
