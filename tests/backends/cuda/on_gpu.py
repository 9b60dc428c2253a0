"""Kernels of tests on a device."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gcompile.backends.cuda.kernel import Access, Kernel
from gcompile.backends.cuda.toolchain import nvrtc
from gcompile.runtime.cuda.driver import Driver
from gcompile.runtime.cuda.one_launch import launch_once
from gcompile.runtime.cuda.plan import PlannedKernel
from tests.backends.cuda.launches_of_tests import Array


class OnGpu:
    """Launches on the device what ran on the CPU, so that a test judges the device's results."""

    def __init__(self, found: Driver) -> None:
        self.driver = found
        gpu = found.device(0)
        self.arch = 10 * gpu.major + gpu.minor

    def __call__(self, kernel: Kernel, before: list[Array], after: Sequence[Array]) -> None:
        needed = kernel.only_arch.rstrip("af") or self.arch
        if kernel.least_arch > self.arch or int(needed) != self.arch:
            return  # What ran on the CPU stays: this GPU does not have the kernel's instructions.
        arch = kernel.only_arch or str(self.arch)
        code = nvrtc().compile(kernel.source, kernel.name, arch)
        planned = PlannedKernel(
            kernel.name, kernel.grid, kernel.block, kernel.dynamic_shared_bytes
        )
        results = launch_once(self.driver, 0, code.cubin, planned, before)
        for argument, target, result in zip(kernel.arguments, after, results, strict=True):
            if argument.access is not Access.READ:
                np.copyto(target, result.reshape(target.shape))
