"""Tensors of other libraries, queues of other libraries, and what is left behind: nothing."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import numpy as np
import pytest

from gcompile import runtime
from gcompile.errors import RunError
from gcompile.runtime.cuda import dlpack
from gcompile.runtime.cuda.runner import CudaRunner
from tests.fake_gpu import FakeDriver
from tests.runtime.cuda.conftest import Built

_LIVE = ("live_allocations", "live_modules", "live_streams", "live_events")


class OnDevice:
    """An array that says it is in the memory of GPU 0, which the fake driver can read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array
        self.asked: list[int | None] = []

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int | None = None) -> object:
        self.asked.append(stream)
        return self.array.__dlpack__()


@pytest.fixture
def runner(built: Built, fake: FakeDriver, tmp_path: Path) -> CudaRunner:
    """The artefact on the fake GPU."""
    fake.know(built.kernels, tmp_path)
    found = runtime.load(built.folder)
    assert isinstance(found, CudaRunner)
    return found


def _live(fake: FakeDriver) -> list[int]:
    gc.collect()
    return [fake.count(what) for what in _LIVE]


def test_a_runner_leaves_nothing_behind(built: Built, fake: FakeDriver, tmp_path: Path) -> None:
    fake.know(built.kernels, tmp_path)
    before = _live(fake)
    runner = runtime.load(built.folder)
    assert isinstance(runner, CudaRunner)
    runner.run(built.inputs)
    outputs = runner.run_on_device({"x": OnDevice(built.inputs["x"])}, stream=7)
    del outputs
    runner.close()
    runner.close()
    assert _live(fake) == before


def test_a_closed_runner_says_so(runner: CudaRunner, built: Built) -> None:
    call = runner.prepare(built.inputs)
    runner.close()
    for use in (lambda: runner.run(built.inputs), call):
        with pytest.raises(RunError, match="was closed; load the artefact again"):
            use()


def test_another_queue_waits_for_the_inference_before_it(
    runner: CudaRunner, built: Built, fake: FakeDriver
) -> None:
    """All inferences of a runner use the same memory."""
    given, taken = OnDevice(built.inputs["x"]), OnDevice(np.zeros((1, 5), np.float32))
    waits = fake.count("waits")
    runner.run_into({"x": given}, {"y": taken}, stream=7)
    runner.run_into({"x": given}, {"y": taken}, stream=7)
    assert fake.count("waits") == waits
    runner.run_into({"x": given}, {"y": taken}, stream=8)
    assert fake.count("waits") == waits + 1
    runner.run(built.inputs)
    assert fake.count("waits") == waits + 2
    runner.run(built.inputs)
    assert fake.count("waits") == waits + 2


def test_whoever_takes_a_result_waits_for_it_in_a_queue_of_its_own(
    runner: CudaRunner, built: Built, fake: FakeDriver
) -> None:
    result = runner.run_on_device({"x": OnDevice(built.inputs["x"])}, stream=7)["y"]
    waits = fake.count("waits")
    capsules = [result.__dlpack__(stream=9), result.__dlpack__(stream=-1), result.__dlpack__()]
    assert fake.count("waits") == waits + 1
    del capsules


def test_a_capsule_that_nobody_takes_is_forgotten(runner: CudaRunner, built: Built) -> None:
    result = runner.run_on_device({"x": OnDevice(built.inputs["x"])})["y"]
    held = len(dlpack._exported)
    capsule = result.__dlpack__()
    assert len(dlpack._exported) == held + 1
    del capsule
    assert len(dlpack._exported) == held


def test_a_result_may_be_dropped_by_another_thread(
    runner: CudaRunner, built: Built, fake: FakeDriver
) -> None:
    before = fake.count("live_allocations")
    results = [runner.run_on_device({"x": OnDevice(built.inputs["x"])})]
    thread = threading.Thread(target=results.clear)
    thread.start()
    thread.join()
    assert fake.count("live_allocations") == before


def test_a_tensor_that_begins_in_between_is_refused(runner: CudaRunner, built: Built) -> None:
    """Kernels read 16 bytes at once, from where the tensor begins."""
    room = np.zeros(built.inputs["x"].size + 8, np.float32)
    start = (-room.ctypes.data % 16) // 4 + 1
    shifted = room[start : start + built.inputs["x"].size].reshape(built.inputs["x"].shape)
    with pytest.raises(RunError, match="does not begin at a multiple of 16 bytes; copy it"):
        runner.run_on_device({"x": OnDevice(shifted)})


def test_after_a_tensor_that_is_refused_the_others_are_given_back(
    runner: CudaRunner, built: Built, fake: FakeDriver
) -> None:
    given = OnDevice(built.inputs["x"])
    before = _live(fake)
    with pytest.raises(RunError, match="has shape"):
        runner.run_into({"x": given}, {"y": OnDevice(np.zeros((1, 6), np.float32))})
    assert _live(fake) == before
    runner.run_on_device({"x": given})


def test_tensors_are_asked_for_in_the_queue_that_will_read_them(
    runner: CudaRunner, built: Built
) -> None:
    given = OnDevice(built.inputs["x"])
    runner.run_on_device({"x": given}, stream=7)
    assert given.asked == [7]


def test_too_little_memory_for_results_is_a_sentence(
    runner: CudaRunner, built: Built, fake: FakeDriver
) -> None:
    fake.become(free=1)
    with pytest.raises(RunError, match="not enough free memory; stop other processes"):
        runner.run_on_device({"x": OnDevice(built.inputs["x"])})
    fake.become()
    runner.run_on_device({"x": OnDevice(built.inputs["x"])})


def test_bfloat16_may_come_as_its_bits() -> None:
    from gcompile.runtime import TensorSpec
    from gcompile.runtime.runner import checked_input

    spec = TensorSpec("x", "bfloat16", (2,))
    bits = np.array([0x3F80, 0x4000], np.uint16)
    assert checked_input(spec, {"x": bits}) is not None
    with pytest.raises(RunError, match="the model takes bfloat16"):
        checked_input(spec, {"x": np.zeros(2, np.float32)})
