"""Run a CUDA variant on numpy arrays or on tensors that are in device memory already."""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from gcompile.errors import RunError
from gcompile.runtime.counts import without_rest
from gcompile.runtime.cuda.dlpack import Borrowed, DeviceTensor
from gcompile.runtime.cuda.session import Addresses, Session
from gcompile.runtime.entry_point import EntryPoint, TensorSpec
from gcompile.runtime.manifest import Manifest, Variant
from gcompile.runtime.runner import Array, Runner, stored_dtype, typed


class CudaRunner(Runner):
    """A compiled model on a GPU. Made by `gcompile.runtime.load`.

    One runner runs one inference at a time; calls from several threads wait for each other.
    """

    def __init__(
        self, manifest: Manifest, entry_point: EntryPoint, variant: Variant, session: Session
    ) -> None:
        """Wrap a session."""
        self.manifest = manifest
        self.entry_point = entry_point
        self.variant = variant
        self.session = session
        self._lock = threading.Lock()
        self._finalizer = weakref.finalize(self, session.close)

    @property
    def device(self) -> int:
        """Which GPU it runs on."""
        return self.session.device

    @property
    def device_bytes(self) -> int:
        """Memory that the model holds: weights, the arena, and its own inputs and outputs."""
        return self.session.bytes

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one inference on arrays; see `Runner.run`."""
        arrays = self._checked(inputs)
        session, driver = self.session, self.session.driver
        with self._lock:
            session.enter()
            uploading = self._upload(arrays)
            session.start(session.staging, session.stream)
            results = []
            for spec, address in zip(self.outputs, session.staging.outputs, strict=True):
                array = np.empty(spec.shape, stored_dtype(spec))
                driver.download(array.ctypes.data, address, array.nbytes, session.stream)
                results.append(typed(array, spec))
            driver.wait(session.stream)
            del uploading
        found = dict(zip((spec.name for spec in self.outputs), results, strict=True))
        return without_rest(found, self.entry_point.counts)

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], None]:
        """Copy the inputs once and return a call that runs the model and waits for its end."""
        many = self.prepare_many(inputs)
        return lambda: many(1)

    def prepare_many(self, inputs: Mapping[str, Array]) -> Callable[[int], None]:
        """Copy the inputs once and return a call that queues inferences and waits for the last."""
        arrays = self._checked(inputs)
        session = self.session

        def many(count: int) -> None:
            with self._lock:
                session.enter()
                for _ in range(count):
                    session.start(session.staging, session.stream)
                session.driver.wait(session.stream)

        with self._lock:
            session.enter()
            uploading = self._upload(arrays)
            session.driver.wait(session.stream)
            del uploading
        return many

    def run_on_device(
        self, inputs: Mapping[str, Any], stream: int | None = None
    ) -> dict[str, DeviceTensor]:
        """Run one inference on device tensors, without copying them.

        Args:
            inputs: Tensors by name that speak DLPack: of torch, cupy, jax, …
            stream: The handle of a CUDA stream to put the work into, and not to wait for; by
                default one of the runner's own, which is waited for. Inputs must outlive the work.

        Raises:
            RunError: A tensor is missing, or is not what the model takes.
        """
        session, driver = self.session, self.session.driver
        queue = session.stream if stream is None else stream
        with self._lock:
            session.enter()
            with self._borrow(self.inputs, inputs, queue) as addresses:
                results = [self._new_tensor(spec) for spec in self.outputs]
                places = Addresses(addresses, tuple(tensor.address for tensor in results))
                session.put(places, queue)
                for tensor in results:
                    tensor.comes_from(queue)
                if stream is None:
                    driver.wait(queue)
        return {spec.name: tensor for spec, tensor in zip(self.outputs, results, strict=True)}

    def run_into(
        self, inputs: Mapping[str, Any], outputs: Mapping[str, Any], stream: int | None = None
    ) -> None:
        """Run one inference from device tensors into device tensors, without copying any.

        The launches are recorded once for the same tensors and then started as a whole.

        Args:
            inputs: As for `run_on_device`.
            outputs: Tensors by name that take the results; they must outlive the call.
            stream: As for `run_on_device`.

        Raises:
            RunError: A tensor is missing, or is not what the model takes or gives.
        """
        session = self.session
        queue = session.stream if stream is None else stream
        with self._lock:
            session.enter()
            with (
                self._borrow(self.inputs, inputs, queue) as given,
                self._borrow(self.outputs, outputs, queue) as taken,
            ):
                session.start(Addresses(given, taken), queue)
                if stream is None:
                    session.driver.wait(queue)

    def close(self) -> None:
        """Give the memory back; the runner cannot be used any more."""
        self._finalizer()

    @contextmanager
    def _borrow(
        self, specs: Sequence[TensorSpec], tensors: Mapping[str, Any], stream: int
    ) -> Iterator[tuple[int, ...]]:
        """Addresses of tensors that are given back when the block ends, however it ends."""
        missing = [spec.name for spec in specs if spec.name not in tensors]
        if missing:
            raise RunError(f"The tensor {missing[0]!r} is missing.")
        device = self.session.device
        with ExitStack() as held:
            borrowed = []
            for spec in specs:
                borrowed.append(Borrowed(tensors[spec.name], spec, device, stream))
                held.callback(borrowed[-1].close)
            yield tuple(tensor.address for tensor in borrowed)

    def _new_tensor(self, spec: TensorSpec) -> DeviceTensor:
        driver = self.session.driver
        size = math.prod(spec.shape) * stored_dtype(spec).itemsize
        return DeviceTensor(spec, driver.allocate(size), self.session.device, driver)

    def _upload(self, arrays: Sequence[Array]) -> list[Array]:
        """Put copies into the queue; the arrays returned must live until they are done."""
        session = self.session
        dense = [np.ascontiguousarray(array) for array in arrays]
        for array, address in zip(dense, session.staging.inputs, strict=True):
            session.driver.upload(address, array.ctypes.data, array.nbytes, session.stream)
        return dense
