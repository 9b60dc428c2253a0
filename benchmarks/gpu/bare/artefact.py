"""One artefact on the GPU: loaded as it was built, compared, timed, and metered."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.bare.case import AbsentError, WrongError
from benchmarks.gpu.bare.compare import compare_model
from benchmarks.gpu.bare.drawn import read, write_weights
from benchmarks.gpu.bare.timing import joules, timed
from benchmarks.gpu.bare.worker import Item
from gcompile import runtime
from gcompile.errors import ArtifactError
from gcompile.runtime.cuda.driver import driver
from gcompile.runtime.cuda.runner import CudaRunner


def artefact_items(settings: dict[str, Any], folder: Path, device: int) -> Iterator[Item]:
    """Agreement, speed and joules of one artefact; those that its settings ask for."""
    model = _Model(settings, folder, device)
    yield "agrees", model.agree
    if settings.get("timed", True):
        yield "speed", model.speed
        yield "joules", model.joules


class _Model:
    """An artefact that is loaded when the first item needs it."""

    def __init__(self, settings: dict[str, Any], folder: Path, device: int) -> None:
        self.settings, self.device = settings, device
        self.folder: Path = folder / settings["folder"]

    @cached_property
    def runner(self) -> CudaRunner:
        """The artefact, its weights written where they were left out."""
        recipes = self._beside("weights.json")
        if recipes.is_file() and not (self.folder / "weights.bin").is_file():
            write_weights(self.folder, recipes)
        try:
            runner = runtime.load(self.folder, device=self.device)
        except ArtifactError as error:
            if "it was compiled for" in str(error):
                raise AbsentError(str(error)) from error
            raise
        if not isinstance(runner, CudaRunner):
            raise WrongError("the CPU's variant was loaded", {})
        return runner

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """One inference."""
        arrays = read(self._beside("inputs.json"))
        names = (spec.name for spec in self.runner.inputs)
        return dict(zip(names, arrays, strict=True))

    def _beside(self, name: str) -> Path:
        return self.folder.parent / f"{self.folder.name}.{name}"

    def agree(self) -> dict[str, Any]:
        """Two runs, which must be equal, against what is expected."""
        first, second = self.runner.run(self.inputs), self.runner.run(self.inputs)
        figures: dict[str, Any] = {"variant": self.runner.variant.name}
        with np.load(self._beside("expected.npz")) as expected:
            for name in expected.files:
                got = _plain(first[name].reshape(-1)[:: self.settings["step"]])
                figures |= compare_model(got, expected[name], self.settings["bound"])
        for name, array in first.items():
            if array.tobytes() != second[name].tobytes():
                raise WrongError(f"two runs give different {name}", figures)
        session = self.runner.session
        return figures | {"launches": session.plan.launches, "device_bytes": session.bytes}

    def speed(self) -> dict[str, Any]:
        """Seconds of single inferences, and of many put into the queue at once."""
        queue = self.runner.prepare_many(self.inputs)
        found = timed(lambda: queue(1), queue)
        predicted = self._predicted()
        if predicted:
            found["predicted_s"] = predicted["time_s"]
        return found

    def joules(self) -> dict[str, Any]:
        """Joules of inferences that follow each other, beside what was estimated."""
        found = joules(self.runner.prepare_many(self.inputs), self.device)
        predicted = self._predicted()
        if predicted:
            found |= {
                f"predicted_{key}": predicted[key] for key in ("energy_j", "low_j", "high_j")
            }
            found["of_predicted"] = found["energy_j"] / predicted["energy_j"]
        return found

    def _predicted(self) -> dict[str, float]:
        """What was estimated for the card that this is; empty for cards without a target."""
        name = driver().device(self.device).name
        found: dict[str, float] = self.settings.get("predicted", {}).get(name, {})
        return found


def _plain(array: Any) -> Any:
    """Numbers that numpy alone knows: bfloat16 as float32."""
    if array.dtype.name in ("bfloat16", "uint16"):
        return (array.view(np.uint16).astype(np.uint32) << np.uint32(16)).view(np.float32)
    return array
