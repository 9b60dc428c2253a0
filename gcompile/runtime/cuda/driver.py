"""The CUDA driver API, as far as running a plan needs it, through `libcuda.so.1` and ctypes.

See https://docs.nvidia.com/cuda/cuda-driver-api. Handles and device addresses are plain integers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from gcompile.errors import BackendUnavailableError, RunError

LIBRARY = "libcuda.so.1"
LIBRARY_VARIABLE = "GCOMPILE_LIBCUDA"
"""Names another library with the driver's functions, such as one outside the loader's path."""

_SHARED_BYTES = 8
_MAJOR, _MINOR = 75, 76
_OUT_OF_MEMORY = 2
_RELAXED = 2
_NON_BLOCKING = 1
_NO_TIMING = 2


@dataclass(frozen=True)
class Device:
    """One GPU.

    Attributes:
        index: As the driver counts, which `CUDA_VISIBLE_DEVICES` changes.
        major: With `minor` the compute capability: 8 and 0 for sm_80.
    """

    index: int
    name: str
    major: int
    minor: int


class Driver:
    """The driver, initialized. Made by `driver`."""

    def __init__(self, path: str) -> None:
        """Load and initialize the library.

        Raises:
            BackendUnavailableError: It is not there, or finds no GPU.
        """
        try:
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise BackendUnavailableError(
                f"No NVIDIA driver is installed here ({path} cannot be loaded)"
            ) from error
        result = self._library.cuInit(0)
        if result:
            raise BackendUnavailableError(
                f"The NVIDIA driver finds no GPU it can use here ({self._message(result)})"
            )
        self._devices: dict[int, int] = {}

    @property
    def version(self) -> int:
        """The newest CUDA version this driver knows: 12020 for 12.2."""
        found = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(found))
        return found.value

    @property
    def count(self) -> int:
        """How many GPUs there are."""
        found = ctypes.c_int()
        self._call("cuDeviceGetCount", ctypes.byref(found))
        return found.value

    def device(self, index: int) -> Device:
        """Describe a GPU.

        Raises:
            RunError: There is none of that number.
        """
        self._check_index(index)
        handle = self._handle(index)
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, 256, handle)
        major, minor = (self._attribute(number, handle) for number in (_MAJOR, _MINOR))
        return Device(index, name.value.decode(errors="replace"), major, minor)

    def bus_id(self, index: int) -> str:
        """Where a GPU is on the PCI bus, such as `0000:3B:00.0`.

        Raises:
            RunError: There is none of that number.
        """
        self._check_index(index)
        text = ctypes.create_string_buffer(32)
        self._call("cuDeviceGetPCIBusId", text, 32, self._handle(index))
        return text.value.decode(errors="replace")

    def enter(self, index: int) -> None:
        """Make the primary context of a GPU, which other libraries share, this thread's own."""
        context = self._devices.get(index)
        if context is None:
            context = self._make("cuDevicePrimaryCtxRetain", self._handle(index))
            self._devices[index] = context
        self._call("cuCtxSetCurrent", ctypes.c_void_p(context))

    def free_bytes(self) -> int:
        """Memory that nobody uses."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
        return free.value

    def allocate(self, size: int) -> int:
        """Device memory; the address is a multiple of 256.

        Raises:
            RunError: There is not enough.
        """
        address = ctypes.c_uint64()
        self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(max(size, 1)))
        return address.value

    def release(self, address: int) -> None:
        """Give memory back."""
        self._call("cuMemFree_v2", ctypes.c_uint64(address))

    def upload(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy from this machine's memory at address `source`."""
        self._copy("cuMemcpyHtoDAsync_v2", ctypes.c_uint64(target), source, size, stream)

    def download(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy to this machine's memory at address `target`."""
        self._copy(
            "cuMemcpyDtoHAsync_v2", ctypes.c_void_p(target), ctypes.c_uint64(source), size, stream
        )

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        """Copy within the device."""
        self._copy(
            "cuMemcpyDtoDAsync_v2", ctypes.c_uint64(target), ctypes.c_uint64(source), size, stream
        )

    def zero(self, target: int, size: int, stream: int) -> None:
        """Set bytes to zero."""
        self._call(
            "cuMemsetD8Async",
            ctypes.c_uint64(target),
            ctypes.c_ubyte(0),
            ctypes.c_size_t(size),
            ctypes.c_void_p(stream),
        )

    def load(self, image: bytes) -> int:
        """Load machine code or PTX, which the driver compiles."""
        return self._make("cuModuleLoadData", ctypes.c_char_p(image + b"\0"))

    def function(self, module: int, name: str, shared_bytes: int) -> int:
        """A kernel of a module, allowed as much dynamic shared memory as it asks for."""
        function = self._make(
            "cuModuleGetFunction", ctypes.c_void_p(module), ctypes.c_char_p(name.encode())
        )
        if shared_bytes:
            self._call(
                "cuFuncSetAttribute", ctypes.c_void_p(function), _SHARED_BYTES, shared_bytes
            )
        return function

    def unload(self, module: int) -> None:
        """Give up a module; its kernels must not run any more."""
        self._call("cuModuleUnload", ctypes.c_void_p(module))

    def parameters(self, function: int) -> list[int] | None:
        """Bytes of each argument of a kernel; None from drivers before CUDA 12.4."""
        if not hasattr(self._library, "cuFuncGetParamInfo"):
            return None
        sizes: list[int] = []
        offset, size = ctypes.c_size_t(), ctypes.c_size_t()
        while not self._library.cuFuncGetParamInfo(
            ctypes.c_void_p(function),
            ctypes.c_size_t(len(sizes)),
            ctypes.byref(offset),
            ctypes.byref(size),
        ):
            sizes.append(size.value)
        return sizes

    def launch(
        self,
        function: int,
        grid: Sequence[int],
        block: Sequence[int],
        shared_bytes: int,
        stream: int,
        addresses: Sequence[int],
    ) -> None:
        """Launch a kernel whose arguments are addresses."""
        values = (ctypes.c_uint64 * len(addresses))(*addresses)
        size = ctypes.sizeof(ctypes.c_uint64)
        start = ctypes.addressof(values)
        pointers = (ctypes.c_void_p * len(addresses))(
            *(start + size * index for index in range(len(addresses)))
        )
        self._call(
            "cuLaunchKernel",
            ctypes.c_void_p(function),
            *(ctypes.c_uint(number) for number in (*grid, *block)),
            ctypes.c_uint(shared_bytes),
            ctypes.c_void_p(stream),
            pointers,
            None,
        )

    def new_stream(self) -> int:
        """A queue of work that waits for no other."""
        return self._make("cuStreamCreate", _NON_BLOCKING)

    def end_stream(self, stream: int) -> None:
        """Give up a queue."""
        self._call("cuStreamDestroy_v2", ctypes.c_void_p(stream))

    def new_event(self) -> int:
        """A point in a queue that others can wait for."""
        return self._make("cuEventCreate", _NO_TIMING)

    def mark(self, event: int, stream: int) -> None:
        """Put the point behind everything that is in a queue now."""
        self._call("cuEventRecord", ctypes.c_void_p(event), ctypes.c_void_p(stream))

    def wait_in(self, stream: int, event: int) -> None:
        """What is put into a queue from now on begins when the point is reached."""
        self._call("cuStreamWaitEvent", ctypes.c_void_p(stream), ctypes.c_void_p(event), 0)

    def wait_for(self, event: int) -> None:
        """Wait until the point is reached."""
        self._call("cuEventSynchronize", ctypes.c_void_p(event))

    def end_event(self, event: int) -> None:
        """Give up a point."""
        self._call("cuEventDestroy_v2", ctypes.c_void_p(event))

    def wait(self, stream: int) -> None:
        """Wait until a queue is empty."""
        self._call("cuStreamSynchronize", ctypes.c_void_p(stream))

    def begin_capture(self, stream: int) -> None:
        """Record what is put into a queue from now on instead of doing it."""
        self._call("cuStreamBeginCapture_v2", ctypes.c_void_p(stream), _RELAXED)

    def drop_capture(self, stream: int) -> None:
        """Stop recording and forget what was recorded."""
        graph = ctypes.c_void_p()
        self._library.cuStreamEndCapture(ctypes.c_void_p(stream), ctypes.byref(graph))
        if graph.value:
            self._library.cuGraphDestroy(graph)

    def end_capture(self, stream: int) -> int:
        """What was recorded, ready to be started as a whole."""
        graph = ctypes.c_void_p()
        self._call("cuStreamEndCapture", ctypes.c_void_p(stream), ctypes.byref(graph))
        started = ctypes.c_void_p()
        try:
            self._call(
                "cuGraphInstantiateWithFlags", ctypes.byref(started), graph, ctypes.c_ulonglong(0)
            )
        finally:
            self._call("cuGraphDestroy", graph)
        return started.value or 0

    def start(self, graph: int, stream: int) -> None:
        """Start what was recorded."""
        self._call("cuGraphLaunch", ctypes.c_void_p(graph), ctypes.c_void_p(stream))

    def forget(self, graph: int) -> None:
        """Give up what was recorded."""
        self._call("cuGraphExecDestroy", ctypes.c_void_p(graph))

    def _copy(self, name: str, target: object, source: object, size: int, stream: int) -> None:
        given = ctypes.c_void_p(source) if isinstance(source, int) else source
        self._call(name, target, given, ctypes.c_size_t(size), ctypes.c_void_p(stream))

    def _check_index(self, index: int) -> None:
        if not 0 <= index < self.count:
            raise RunError(f"There is no GPU {index} here: the driver counts {self.count} from 0.")

    def _handle(self, index: int) -> int:
        handle = ctypes.c_int()
        self._call("cuDeviceGet", ctypes.byref(handle), index)
        return handle.value

    def _attribute(self, number: int, handle: int) -> int:
        found = ctypes.c_int()
        self._call("cuDeviceGetAttribute", ctypes.byref(found), number, handle)
        return found.value

    def _make(self, name: str, *arguments: object) -> int:
        """Call a function whose first argument takes the handle of what it makes."""
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *arguments)
        return handle.value or 0

    def _call(self, name: str, *arguments: object) -> None:
        result = getattr(self._library, name)(*arguments)
        if result == _OUT_OF_MEMORY:
            raise RunError(
                "The GPU has not enough free memory; stop other processes that use it, or take "
                "another GPU with device=N."
            )
        if result:
            raise RunError(f"The CUDA driver refused {name}: {self._message(result)}.")

    def _message(self, result: int) -> str:
        text = ctypes.c_char_p()
        self._library.cuGetErrorString(result, ctypes.byref(text))
        return (text.value or b"error").decode() + f", code {result}"


def driver() -> Driver:
    """The driver of this machine.

    Raises:
        BackendUnavailableError: There is none, or no GPU; the message has no remedy.
    """
    return _opened(os.environ.get(LIBRARY_VARIABLE, LIBRARY))


@cache
def _opened(path: str) -> Driver:
    return Driver(path)
