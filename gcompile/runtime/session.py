"""Entry points that share a state, such as the key and value cache of a decoder.

    present.0.key of one call  →  past.0.key of the next, of whichever entry point

The state stays in the runtime's memory. An entry point that writes it in place is given that
memory; where it returns another tensor instead, that tensor is the state from then on. Nothing is
copied either way.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gcompile.errors import RunError, UnknownNameError
from gcompile.runtime.entry_point import EntryPoint, TensorSpec
from gcompile.runtime.load import load_entries
from gcompile.runtime.runner import (
    Array,
    NativeRunner,
    Runner,
    aligned_empty,
    checked_input,
    typed,
)

_NEXT, _BEFORE = "present", ("past_key_values", "past")
"""What exporters call a cache after a call and before it."""


class Session:
    """Runs entry points one after the other; the state begins with zeros.

    One session runs one call at a time; calls from several threads wait for each other.
    """

    def __init__(
        self, runners: Mapping[str, Runner], carried: Mapping[str, str] | None = None
    ) -> None:
        """Join entry points.

        Args:
            runners: By name, as `load_entries` gives them.
            carried: For each output that is kept, the input it becomes; by default outputs called
                `present...` become inputs called `past...` or `past_key_values...`.

        Raises:
            RunError: An output and the input it becomes differ in type or shape, two entry points
                disagree about one, or one does not run on the CPU.
        """
        self.runners = _on_cpu(runners)
        if carried is None:
            carried = carried_state(runner.entry_point for runner in runners.values())
        self.carried = dict(carried)
        self._lock = threading.Lock()
        self._states = {spec.name: _zeros(spec) for spec in self._specs()}
        self._buffers = {
            name: {
                spec.name: _tensor(aligned_empty(spec))
                for spec in runner.inputs
                if spec.name not in self._states
            }
            for name, runner in self.runners.items()
        }

    @classmethod
    def load(cls, folder: str | Path, *, threads: int | None = None) -> Session:
        """Load all entry points of an artefact; errors are those of `gcompile.runtime.load`."""
        return cls(load_entries(folder, threads=threads))

    def run(self, entry: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run an entry point on what is not state, and return what is not state.

        Raises:
            UnknownNameError: There is no entry point of that name.
            RunError: An input is missing, unknown, or of another dtype or shape.
        """
        if entry not in self.runners:
            raise UnknownNameError("entry point", entry, self.runners)
        runner, buffers = self.runners[entry], self._buffers[entry]
        if unknown := sorted(set(inputs) - set(buffers)):
            raise RunError(
                f"Entry point {entry!r} is given no {unknown[0]!r}; give "
                f"{', '.join(buffers) or 'nothing'}."
            )
        given = {
            spec.name: checked_input(spec, inputs)
            for spec in runner.inputs
            if spec.name in buffers
        }
        with self._lock:
            for name, array in given.items():
                np.from_dlpack(buffers[name])[...] = array
            results = runner.call([(buffers | self._states)[spec.name] for spec in runner.inputs])
            outputs = {}
            for spec, result in zip(runner.outputs, results, strict=True):
                if spec.name in self.carried:
                    self._states[self.carried[spec.name]] = result
                else:
                    outputs[spec.name] = typed(np.from_dlpack(result).copy(), spec)
        return outputs

    def state(self) -> dict[str, Array]:
        """A copy of the state, by the names of inputs."""
        specs = {spec.name: spec for spec in self._specs()}
        with self._lock:
            return {
                name: typed(np.from_dlpack(tensor).copy(), specs[name])
                for name, tensor in self._states.items()
            }

    def reset(self) -> None:
        """Begin again, with zeros."""
        with self._lock:
            self._states = {spec.name: _zeros(spec) for spec in self._specs()}

    def _specs(self) -> list[TensorSpec]:
        """The inputs that are state."""
        wanted = {target: source for source, target in self.carried.items()}
        found: dict[str, TensorSpec] = {}
        for runner in self.runners.values():
            outputs = {spec.name: spec for spec in runner.outputs}
            for spec in runner.inputs:
                if spec.name not in wanted:
                    continue
                source = outputs.get(wanted[spec.name])
                known = found.setdefault(spec.name, spec)
                if known != spec or (source and _form(source) != _form(spec)):
                    raise RunError(
                        f"The state {spec.name!r} has another type or shape in "
                        f"{runner.entry_point.name!r} than elsewhere; compile its entry points "
                        "for the same cache."
                    )
        return list(found.values())


def carried_state(points: Iterable[EntryPoint]) -> dict[str, str]:
    """For each output that exporters call `present...`, the input `past...` that it becomes."""
    found: dict[str, str] = {}
    for point in points:
        inputs = {spec.name for spec in point.inputs}
        for spec in point.outputs:
            if spec.name.startswith(_NEXT):
                rest = spec.name.removeprefix(_NEXT)
                for name in {before + rest for before in _BEFORE} & inputs:
                    found[spec.name] = name
    return found


def _on_cpu(runners: Mapping[str, Runner]) -> dict[str, NativeRunner]:
    found = {name: each for name, each in runners.items() if isinstance(each, NativeRunner)}
    if left := [name for name in runners if name not in found]:
        raise RunError(
            f"Entry point {left[0]!r} runs on a GPU, and sessions are for the CPU; load its "
            "variant for that."
        )
    return found


def _form(spec: TensorSpec) -> tuple[str, tuple[int, ...]]:
    return spec.dtype, spec.shape


def _zeros(spec: TensorSpec) -> Any:
    buffer = aligned_empty(spec)
    buffer[...] = 0
    return _tensor(buffer)


def _tensor(buffer: Array) -> Any:
    import tvm_ffi

    return tvm_ffi.from_dlpack(buffer)
