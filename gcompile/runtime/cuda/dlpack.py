"""Tensors in device memory, exchanged with other libraries without copies.

The layout of the structures is DLPack's (https://dmlc.github.io/dlpack/latest/c_api.html), the
exchange Python's array API standard.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

from gcompile.errors import RunError
from gcompile.runtime.cuda.driver import Driver
from gcompile.runtime.cuda.plan import ALIGNMENT_BYTES
from gcompile.runtime.entry_point import TensorSpec

CUDA = 2
"""DLPack's number for memory of NVIDIA GPUs."""

_NO_WAIT = -1
_NAME, _USED_NAME = b"dltensor", b"used_dltensor"
_KINDS = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("kind", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = (
    ("tensor", _Tensor),
    ("context", ctypes.c_void_p),
    ("deleter", _Deleter),
)

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_Destructor = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
# A destructor gets a capsule that is being taken apart: its address, which must not be counted.
_is_named = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_IsValid", ctypes.pythonapi)
)
_pointer_in = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)

_exported: dict[int, tuple[_Managed, Any, object]] = {}
"""Structures that other libraries hold, by address, with the tensor whose memory they show."""


class DeviceTensor:
    """A tensor of this library's own in device memory: `torch.from_dlpack(tensor)` shows it."""

    def __init__(self, spec: TensorSpec, address: int, device: int, driver: Driver) -> None:
        """Take over memory, which is given back when nobody holds the tensor any more."""
        self.spec = spec
        self.address = address
        self.device = device
        self._driver = driver
        self._ready = 0

    def comes_from(self, stream: int) -> None:
        """What computes it is in this queue now; whoever takes it waits for that."""
        self._ready = self._driver.new_event()
        self._driver.mark(self._ready, stream)

    def __del__(self) -> None:
        self._driver.enter(self.device)  # It may be another thread's that drops it.
        if self._ready:
            self._driver.wait_for(self._ready)
            self._driver.end_event(self._ready)
        self._driver.release(self.address)

    def __dlpack_device__(self) -> tuple[int, int]:
        """The kind of memory, and which GPU."""
        return CUDA, self.device

    def __dlpack__(self, stream: int | None = None, **_options: object) -> object:
        """A capsule that is ready for work in `stream`, as DLPack numbers streams.

        Without a stream, what computes the tensor has finished before it is handed out; -1 stands
        for a consumer that does not want to wait.
        """
        if self._ready and stream != _NO_WAIT:
            self._driver.enter(self.device)
            if stream is None:
                self._driver.wait_for(self._ready)
            else:
                self._driver.wait_in(stream, self._ready)
        shape = (ctypes.c_int64 * max(len(self.spec.shape), 1))(*self.spec.shape)
        kind, bits = _kind(self.spec.dtype)
        tensor = _Tensor(
            self.address, CUDA, self.device, len(self.spec.shape), kind, bits, 1, shape, None, 0
        )
        managed = _Managed(tensor, None, _FORGET)
        address = ctypes.addressof(managed)
        _exported[address] = (managed, shape, self)
        return _new_capsule(address, _NAME, _FORGET_UNUSED)


class Borrowed:
    """Another library's tensor, held until `close`.

    Attributes:
        address: Where its first element is.
    """

    def __init__(self, array: Any, spec: TensorSpec, device: int, stream: int) -> None:
        """Ask for a tensor that is ready for work put into `stream`.

        Raises:
            RunError: It has another type or shape, gaps, or lies elsewhere.
        """
        if not hasattr(array, "__dlpack__"):
            raise RunError(f"The tensor {spec.name!r} is no device tensor; use run() for arrays.")
        where = tuple(int(number) for number in array.__dlpack_device__())
        if where != (CUDA, device):
            raise RunError(f"The tensor {spec.name!r} is not in the memory of GPU {device}.")
        self._capsule = array.__dlpack__(stream=stream)
        self._managed = _Managed.from_address(_pointer_of(self._capsule, _NAME))
        tensor = self._managed.tensor
        shape = tuple(tensor.shape[axis] for axis in range(tensor.rank))
        if (tensor.kind, tensor.bits, tensor.lanes) != (*_kind(spec.dtype), 1) or (
            shape != spec.shape
        ):
            raise RunError(
                f"The tensor {spec.name!r} has shape {shape} or another type than the model "
                f"takes: {spec.dtype} of shape {spec.shape}."
            )
        if not _is_dense(tensor):
            raise RunError(f"The tensor {spec.name!r} has gaps; make it contiguous.")
        self.address = int(tensor.data or 0) + int(tensor.byte_offset)
        if self.address % ALIGNMENT_BYTES:
            raise RunError(
                f"The tensor {spec.name!r} does not begin at a multiple of {ALIGNMENT_BYTES} "
                "bytes; copy it, for example with .clone()."
            )
        _rename(self._capsule, _USED_NAME)

    def close(self) -> None:
        """Give the tensor back."""
        if self._managed.deleter:
            self._managed.deleter(ctypes.byref(self._managed))


def _forget(managed: Any) -> None:
    _exported.pop(ctypes.addressof(managed.contents), None)


_FORGET = _Deleter(_forget)


def _forget_unused(capsule: int) -> None:
    """Of a capsule that nobody took the tensor out of; else the taker forgets it."""
    if _is_named(capsule, _NAME):
        _exported.pop(_pointer_in(capsule, _NAME), None)


_FORGET_UNUSED = _Destructor(_forget_unused)


def _kind(dtype: str) -> tuple[int, int]:
    if dtype == "bool":
        return _KINDS["bool"], 8
    name = dtype.rstrip("0123456789")
    return _KINDS[name], int(dtype[len(name) :])


def _is_dense(tensor: _Tensor) -> bool:
    if not tensor.strides:
        return True
    sizes = [tensor.shape[axis] for axis in range(tensor.rank)]
    return all(
        sizes[axis] == 1 or tensor.strides[axis] == math.prod(sizes[axis + 1 :])
        for axis in range(tensor.rank)
    )
