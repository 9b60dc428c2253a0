"""A CUDA artefact runs through the driver; one without a GPU stands in for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from gcompile import runtime
from gcompile.errors import ArtifactError, RunError
from gcompile.runtime.cuda.driver import LIBRARY_VARIABLE
from gcompile.runtime.cuda.runner import CudaRunner
from tests.fake_gpu import FakeDriver
from tests.runtime.cuda.conftest import Built


def _runner(built: Built, fake: FakeDriver, folder: Path) -> CudaRunner:
    fake.know(built.kernels, folder)
    runner = runtime.load(built.folder)
    assert isinstance(runner, CudaRunner)
    return runner


def test_an_inference_is_one_graph_of_all_launches(
    built: Built, fake: FakeDriver, tmp_path: Path
) -> None:
    runner = _runner(built, fake, tmp_path)
    for times in (1, 2):
        got = runner.run(built.inputs)
        assert fake.count("graph_launches") == times
        assert fake.count("launches") == times * runner.session.plan.launches
        np.testing.assert_array_equal(got["y"], built.expected["y"])


def test_a_prepared_call_runs_the_model_again(
    built: Built, fake: FakeDriver, tmp_path: Path
) -> None:
    runner = _runner(built, fake, tmp_path)
    call = runner.prepare(built.inputs)
    call()
    call()
    assert fake.count("graph_launches") == 2


def test_all_memory_is_given_back(built: Built, fake: FakeDriver, tmp_path: Path) -> None:
    before = fake.count("live_allocations")
    runner = _runner(built, fake, tmp_path)
    assert fake.count("live_allocations") == before + 1
    outputs = runner.run_on_device({"x": _OnDevice(built.inputs["x"])})
    assert fake.count("live_allocations") == before + 2
    del outputs
    runner.close()
    assert fake.count("live_allocations") == before


def test_device_tensors_are_read_and_written_where_they_are(
    built: Built, fake: FakeDriver, tmp_path: Path
) -> None:
    runner = _runner(built, fake, tmp_path)
    given = _OnDevice(built.inputs["x"])
    fresh = runner.run_on_device({"x": given})["y"]
    assert fresh.__dlpack_device__() == (2, 0)
    result = _OnDevice(np.zeros((1, 5), np.float32))
    runner.run_into({"x": given}, {"y": result})
    runner.run_into({"x": given}, {"y": result}, stream=1)
    np.testing.assert_array_equal(result.array, built.expected["y"])
    assert fake.count("graph_launches") == 2
    copy = _OnDevice(np.zeros((1, 5), np.float32))
    again = runner.run_on_device({"x": _Shown(given)})["y"]
    runner.session.driver.copy(copy.array.ctypes.data, again.address, copy.array.nbytes, 1)
    np.testing.assert_array_equal(copy.array, built.expected["y"])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((1, 4, 12, 12), np.float32)[:, :, ::-1], "has gaps"),
        (np.zeros((1, 4, 12, 11), np.float32), "has shape"),
        (np.zeros((1, 4, 12, 12), np.int32), "or another type"),
    ],
)
def test_a_device_tensor_of_another_form_is_refused(
    built: Built, fake: FakeDriver, tmp_path: Path, array: np.ndarray, message: str
) -> None:
    runner = _runner(built, fake, tmp_path)
    with pytest.raises(RunError, match=message):
        runner.run_on_device({"x": _OnDevice(array)})
    with pytest.raises(RunError, match="is missing"):
        runner.run_on_device({})
    with pytest.raises(RunError, match="not in the memory of GPU 0"):
        runner.run_on_device({"x": np.zeros((1, 4, 12, 12), np.float32)})


def test_without_a_driver_one_sentence_says_so(
    built: Built, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(LIBRARY_VARIABLE, str(tmp_path / "libcuda.so.1"))
    with pytest.raises(ArtifactError, match="cannot run here: no NVIDIA driver") as error:
        runtime.load(built.folder)
    assert error.value.exit_code == 4


@pytest.mark.parametrize(
    ("machine", "message"),
    [
        ({"arch": 75}, r"compiled for sm_80 and GPU 0, Fake GPU 0, is sm_75"),
        ({"version": 11040}, r"needs a driver for CUDA 12\.0 and this one is for 11\.4"),
        ({"devices": 0}, "finds no GPU|counts no GPU"),
    ],
)
def test_a_machine_that_cannot_run_the_code_is_told_why(
    built: Built, fake: FakeDriver, tmp_path: Path, machine: dict[str, int], message: str
) -> None:
    fake.know(built.kernels, tmp_path)
    fake.become(**machine)
    with pytest.raises(ArtifactError, match=message):
        runtime.load(built.folder)


@pytest.mark.parametrize("arch", [86, 90])
def test_newer_gpus_run_machine_code_of_their_generation_and_ptx_of_older_ones(
    built: Built, fake: FakeDriver, tmp_path: Path, arch: int
) -> None:
    fake.become(arch=arch)
    runner = _runner(built, fake, tmp_path)
    np.testing.assert_array_equal(runner.run(built.inputs)["y"], built.expected["y"])


def test_too_little_free_memory_is_found_before_anything_is_loaded(
    built: Built, fake: FakeDriver, tmp_path: Path
) -> None:
    fake.know(built.kernels, tmp_path)
    fake.become(free=1000)
    with pytest.raises(RunError, match="needs 1 MiB of GPU memory and 1 MiB are free on GPU 0"):
        runtime.load(built.folder)
    assert fake.count("loads") == 0


def test_a_gpu_is_chosen_by_number(built: Built, fake: FakeDriver, tmp_path: Path) -> None:
    fake.know(built.kernels, tmp_path)
    fake.become(devices=2)
    runner = runtime.load(built.folder, device=1)
    assert isinstance(runner, CudaRunner)
    assert runner.device == 1
    with pytest.raises(RunError, match="There is no GPU 2 here: the driver counts 2 from 0"):
        runtime.load(built.folder, device=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda plan: plan["steps"][0][2].append(["arena", 10**12, 4]), "a place"),
        (lambda plan: plan["steps"][0][2].append(["weight", 99, 4]), "a place"),
        (lambda plan: plan["kernels"][0].update(block=[2048, 1, 1]), "block"),
        (lambda plan: plan["codes"][0].update(file="../x"), "not a plain name"),
        (lambda plan: plan["codes"][0].update(spans=[]), "one piece for each kernel"),
        (lambda plan: plan.update(more=1), "unknown key"),
    ],
)
def test_a_plan_that_reaches_beyond_the_artefact_is_refused(
    built: Built, fake: FakeDriver, tmp_path: Path, change: object, message: str
) -> None:
    assert callable(change)
    fake.know(built.kernels, tmp_path)
    folder = tmp_path / "changed"
    shutil.copytree(built.folder, folder)
    path = folder / "model.plan.json"
    plan = json.loads(path.read_text())
    change(plan)
    path.write_text(json.dumps(plan))
    manifest = json.loads((folder / "manifest.json").read_text())
    record = runtime.FileRecord.of(path)
    manifest["files"][path.name] = {"sha256": record.sha256, "bytes": record.bytes}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=message):
        runtime.load(folder)


class _OnDevice:
    """An array that says it is in the memory of GPU 0, which the fake driver can read."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int | None = None) -> object:
        assert stream
        return self.array.__dlpack__()


class _Shown(_OnDevice):
    """Another view of the same array."""

    def __init__(self, other: _OnDevice) -> None:
        super().__init__(other.array)
