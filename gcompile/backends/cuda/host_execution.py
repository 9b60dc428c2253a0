"""A plan on this machine's CPU: its kernels' CPU forms, on the very places of the plan.

This is what stands in for a GPU where there is none. It uses the arena as the GPU would, so a
value that is overwritten too early shows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile.backends.cuda.kernel import CpuForm, Kernel
from gcompile.runtime.counts import Count, without_rest
from gcompile.runtime.cuda.plan import Place, Plan, Step
from gcompile.runtime.entry_point import TensorSpec

Array = NDArray[Any]

_POISON = 0xA5
"""What memory holds that nothing has written yet."""


@dataclass(frozen=True)
class HostExecution:
    """Runs a plan on the CPU.

    Attributes:
        kernels: In the plan's order.
        forms: The CPU form of each kernel, by name.
    """

    plan: Plan
    kernels: Sequence[Kernel]
    forms: Mapping[str, CpuForm]
    weights: Sequence[Array]
    inputs: Sequence[TensorSpec]
    outputs: Sequence[TensorSpec]
    counts: Sequence[Count] = ()

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one inference; inputs and outputs are by name."""
        memory = {
            "weight": [_flat(array) for array in self.weights],
            "input": [_flat(np.asarray(inputs[spec.name])) for spec in self.inputs],
            "output": [np.full(_bytes(spec), _POISON, np.uint8) for spec in self.outputs],
            "arena": [np.full(self.plan.arena_bytes, _POISON, np.uint8)],
        }
        for step in self.plan.steps:
            self._run(step, memory)
        found = {
            spec.name: raw.view(_dtype(spec.dtype)).reshape(spec.shape)
            for spec, raw in zip(self.outputs, memory["output"], strict=True)
        }
        return without_rest(found, self.counts)

    def _run(self, step: Step, memory: Mapping[str, Sequence[Array]]) -> None:
        places = [_bytes_at(place, memory) for place in step.places]
        if step.does == "copy":
            places[0][:] = places[1]
        elif step.does == "zero":
            places[0][:] = 0
        else:
            kernel = self.kernels[step.kernel]
            views = [
                place.view(_dtype(argument.dtype))
                for place, argument in zip(places, kernel.arguments, strict=True)
            ]
            self.forms[kernel.name](views)


def _bytes_at(place: Place, memory: Mapping[str, Sequence[Array]]) -> Array:
    if place.space == "arena":
        return memory["arena"][0][place.at : place.at + place.bytes]
    return memory[place.space][place.at]


def _flat(array: Array) -> Array:
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def _bytes(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape, dtype=np.int64)) * _dtype(spec.dtype).itemsize


def _dtype(name: str) -> np.dtype[Any]:
    return np.dtype(getattr(ml_dtypes, name, name))
