"""Launch one kernel on numpy arrays, for checking kernels one by one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcompile.errors import RunError
from gcompile.runtime.cuda.driver import Driver
from gcompile.runtime.cuda.plan import PlannedKernel

_GUARD_BYTES = 256
_GUARD = 0xA5


def launch_once(
    driver: Driver,
    device: int,
    image: bytes,
    kernel: PlannedKernel,
    arrays: Sequence[NDArray[Any]],
) -> list[NDArray[Any]]:
    """Upload the arrays, launch the kernel on them, and return what they hold then.

    Args:
        driver: The driver.
        device: Which GPU.
        image: The kernel as machine code of that GPU, or as PTX.
        kernel: Its name and its launch.
        arrays: One for each argument, those that it writes too; they are not changed.

    Raises:
        RunError: The driver refuses something, or the kernel wrote behind the end of an argument.
    """
    driver.enter(device)
    guarded = [_guarded(array) for array in arrays]
    with ExitStack() as held:
        module = driver.load(image)
        held.callback(driver.unload, module)
        function = driver.function(module, kernel.name, kernel.shared_bytes)
        stream = driver.new_stream()
        held.callback(driver.end_stream, stream)
        addresses = []
        for data in guarded:
            addresses.append(driver.allocate(data.nbytes))
            held.callback(driver.release, addresses[-1])
            driver.upload(addresses[-1], data.ctypes.data, data.nbytes, stream)
        driver.launch(function, kernel.grid, kernel.block, kernel.shared_bytes, stream, addresses)
        for address, data in zip(addresses, guarded, strict=True):
            driver.download(data.ctypes.data, address, data.nbytes, stream)
        driver.wait(stream)
    return [
        _unguarded(data, array, kernel.name) for data, array in zip(guarded, arrays, strict=True)
    ]


def _guarded(array: NDArray[Any]) -> NDArray[np.uint8]:
    content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return np.concatenate([content, np.full(_GUARD_BYTES, _GUARD, np.uint8)])


def _unguarded(data: NDArray[np.uint8], like: NDArray[Any], name: str) -> NDArray[Any]:
    if (data[like.nbytes :] != _GUARD).any():
        raise RunError(f"The kernel {name} wrote behind the end of an argument.")
    return data[: like.nbytes].view(like.dtype).reshape(like.shape)
