"""Run a loaded artefact on numpy arrays."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcompile.errors import RunError
from gcompile.runtime.counts import without_rest
from gcompile.runtime.entry_point import EntryPoint, TensorSpec
from gcompile.runtime.manifest import Manifest, Variant
from gcompile.runtime.weights import give_back

Array = NDArray[Any]

_STORED = {"bfloat16": "uint16"}
"""Types that only `ml_dtypes` adds to numpy, and what native code takes their bits as."""

_ALIGNMENT_BYTES = 64
"""Generated code loads whole vectors from the start of each tensor and needs it aligned."""


class Runner(ABC):
    """A compiled model, ready to run. Made by `gcompile.runtime.load`.

    One runner runs one inference at a time; calls from several threads wait for each other.
    """

    manifest: Manifest
    entry_point: EntryPoint
    variant: Variant

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs in the model's order."""
        return self.entry_point.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What the code returns: the outputs in the model's order, then what counts them."""
        return self.entry_point.outputs

    @property
    def device_bytes(self) -> int | None:
        """Memory of a GPU that the model holds while it is loaded; None where it runs on a CPU."""
        return None

    @abstractmethod
    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one inference; the arrays returned are the caller's own.

        Raises:
            RunError: An input is missing, unknown, or of another dtype or shape.
        """

    @abstractmethod
    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], None]:
        """Copy the inputs once and return a call that only runs the model, for benchmarks.

        The call must be made from the thread that prepared it.

        Raises:
            RunError: An input is missing, unknown, or of another dtype or shape.
        """

    def prepare_many(self, inputs: Mapping[str, Array]) -> Callable[[int], None]:
        """Copy the inputs once and return a call that runs the model so many times in a row.

        Where code runs on a device, it never waits for the next inference to be started.

        Raises:
            RunError: An input is missing, unknown, or of another dtype or shape.
        """
        call = self.prepare(inputs)

        def many(count: int) -> None:
            for _ in range(count):
                call()

        return many

    def rest(self) -> None:
        """Give what memory can be had again back until the next run; most runners hold none."""
        return

    def run_rows(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run every row of the inputs, however many there are, and join the results.

        Rows lie along the first dimension of every input that is not a scalar; scalars are the
        same for all rows. The model's own batch size decides how many rows one inference takes;
        the last one is filled up with copies of the last row, which are dropped again.

        Raises:
            RunError: The inputs have different numbers of rows, or an output has none.
        """
        batch, rows = self._batch(), self._rows(inputs)
        parts = [self.run(self._slice(inputs, at, batch)) for at in range(0, rows, batch)]
        if not parts:
            return {spec.name: np.empty((0, *spec.shape[1:]), spec.dtype) for spec in self.outputs}
        return {
            name: np.concatenate([part[name] for part in parts])[:rows]
            for name in (spec.name for spec in self.outputs)
        }

    def _checked(self, inputs: Mapping[str, Array]) -> list[Array]:
        known = {spec.name for spec in self.inputs}
        unknown = sorted(set(inputs) - known)
        if unknown:
            raise RunError(
                f"The model has no input {unknown[0]!r}; its inputs are {_listed(self.inputs)}."
            )
        return [checked_input(spec, inputs) for spec in self.inputs]

    def _batch(self) -> int:
        if self.entry_point.counts:
            raise RunError(
                "The model counts the rows of its outputs itself; call run() once per inference."
            )
        specs = [spec for spec in self.inputs if spec.shape]
        sizes = {spec.shape[0] for spec in (*specs, *self.outputs) if spec.shape}
        if len(sizes) != 1 or not specs or any(not spec.shape for spec in self.outputs):
            raise RunError(
                "The model's inputs and outputs do not share one batch dimension; "
                "call run() once per inference instead."
            )
        return max(sizes.pop(), 1)

    def _rows(self, inputs: Mapping[str, Array]) -> int:
        scalars = {spec.name for spec in self.inputs if not spec.shape}
        counts = {
            name: np.shape(array)[0] if np.ndim(array) else 0
            for name, array in inputs.items()
            if name not in scalars
        }
        if len(set(counts.values())) != 1:
            raise RunError(
                f"The inputs have different numbers of rows ({counts}); give the same number."
            )
        return next(iter(counts.values()))

    def _slice(self, inputs: Mapping[str, Array], start: int, batch: int) -> dict[str, Array]:
        scalars = {spec.name for spec in self.inputs if not spec.shape}
        return {
            name: array if name in scalars else _fill_up(array[start : start + batch], batch)
            for name, array in inputs.items()
        }


class NativeRunner(Runner):
    """Code of this machine's CPU. Inputs are copied into buffers that are made once."""

    def __init__(
        self,
        manifest: Manifest,
        entry_point: EntryPoint,
        variant: Variant,
        entry: Callable[..., Any],
        prepare_thread: Callable[[], None],
        weights: Sequence[Array] = (),
    ) -> None:
        """Wrap a variant's entry function; `prepare_thread` sets up its caller's thread pool."""
        self.manifest = manifest
        self.entry_point = entry_point
        self.variant = variant
        self._entry = entry
        self._prepare_thread = prepare_thread
        self._weights = weights
        self._lock = threading.Lock()

    @cached_property
    def _own(self) -> tuple[list[Array], list[Any]]:
        """The buffers of the inputs, as numpy arrays and as what native code takes."""
        return _aligned_arguments(self.inputs)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one inference; see `Runner.run`."""
        arrays = self._checked(inputs)
        with self._lock:
            buffers, arguments = self._own
            for buffer, array in zip(buffers, arrays, strict=True):
                buffer[...] = array
            results = self.call(arguments)
            found = {
                spec.name: typed(np.from_dlpack(result).copy(), spec)
                for spec, result in zip(self.outputs, results, strict=True)
            }
        return without_rest(found, self.entry_point.counts)

    def rest(self) -> None:
        """Give the memory of large weights back; the next run reads them again."""
        give_back(self._weights)

    def call(self, arguments: Sequence[Any]) -> list[Any]:
        """Run on tensors of the native code, which may overwrite them; see `Session`.

        Args:
            arguments: One for each input, of its type and shape, aligned to 64 bytes.
        """
        self._prepare_thread()
        return self._as_list(self._entry(*arguments))

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], None]:
        """Copy the inputs once; see `Runner.prepare`."""
        buffers, arguments = _aligned_arguments(self.inputs)
        for buffer, array in zip(buffers, self._checked(inputs), strict=True):
            buffer[...] = array
        self._prepare_thread()
        entry = self._entry

        def call(_keep_alive: object = buffers) -> None:
            entry(*arguments)

        return call

    def _as_list(self, result: Any) -> list[Any]:
        """A Relax function returns one tensor, or an array of them."""
        results = [result] if hasattr(result, "__dlpack__") else list(result)
        if len(results) != len(self.outputs):
            raise RunError(
                f"The model returned {len(results)} outputs and its manifest lists "
                f"{len(self.outputs)}; compile the model again."
            )
        return results


def _aligned_arguments(specs: tuple[TensorSpec, ...]) -> tuple[list[Array], list[Any]]:
    """One aligned buffer per tensor, as numpy arrays and as what native code takes."""
    import tvm_ffi

    buffers = [aligned_empty(spec) for spec in specs]
    return buffers, [tvm_ffi.from_dlpack(buffer) for buffer in buffers]


def stored_dtype(spec: TensorSpec) -> np.dtype[Any]:
    """The type that code takes a tensor's elements as."""
    return np.dtype(_STORED.get(spec.dtype, spec.dtype))


def aligned_empty(spec: TensorSpec) -> Array:
    """Memory for a tensor, as native code takes it."""
    dtype = stored_dtype(spec)
    size = int(np.prod(spec.shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + _ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % _ALIGNMENT_BYTES
    return raw[start : start + size].view(dtype).reshape(spec.shape)


def checked_input(spec: TensorSpec, inputs: Mapping[str, Array]) -> Array:
    """The array for an input, as native code takes it; bfloat16 may come as its bits.

    Raises:
        RunError: It is missing, or of another dtype or shape.
    """
    if spec.name not in inputs:
        raise RunError(f"The input {spec.name!r} is missing; give {_listed((spec,))}.")
    array = np.asarray(inputs[spec.name])
    if array.dtype.name not in (spec.dtype, _STORED.get(spec.dtype)):
        raise RunError(
            f"The input {spec.name!r} is {array.dtype} and the model takes {spec.dtype}; "
            f"convert it with .astype({spec.dtype!r}) if that keeps its values."
        )
    if array.shape != spec.shape:
        raise RunError(
            f"The input {spec.name!r} has shape {array.shape} and the model takes {spec.shape}; "
            "reshape it, or compile the model for that shape."
        )
    return array.view(_STORED[spec.dtype]) if spec.dtype in _STORED else array


def typed(array: Array, spec: TensorSpec) -> Array:
    """What native code returned, in the type that numpy alone does not have; else its bits."""
    if spec.dtype not in _STORED:
        return array
    try:
        import ml_dtypes
    except ImportError:
        return array
    typed: Array = array.view(getattr(ml_dtypes, spec.dtype))
    return typed


def _fill_up(rows: Array, count: int) -> Array:
    missing = count - len(rows)
    return np.concatenate([rows, np.repeat(rows[-1:], missing, axis=0)]) if missing else rows


def _listed(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name!r} ({spec.dtype}, {spec.shape})" for spec in specs)
