"""Run a model at any size, with the code of the sizes that it was compiled for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gcompile.errors import RunError
from gcompile.runtime.ladder import Dimension, Kind, Ladder
from gcompile.runtime.manifest import Manifest
from gcompile.runtime.runner import Runner

Array = NDArray[Any]


@dataclass(frozen=True)
class Rung:
    """One size that was compiled.

    Attributes:
        sizes: Of each free dimension, by name.
        energy_j: Predicted joules of one run.
    """

    sizes: Mapping[str, int]
    energy_j: float
    runner: Runner


class LadderRunner(Runner):
    """A model that was compiled for several sizes of its free dimensions.

    `inputs` and `outputs` are those of the first entry point; `run` takes other sizes as well.
    """

    def __init__(self, manifest: Manifest, ladder: Ladder, runners: Mapping[str, Runner]) -> None:
        """Put the runners of all entry points together."""
        first = runners[manifest.entries[0].name]
        self.manifest, self.ladder = manifest, ladder
        self.entry_point, self.variant = first.entry_point, first.variant
        self.rungs = [
            Rung(
                {d.name: d.size_in(runner.entry_point) for d in ladder.dimensions},
                ladder.energy_j[name],
                runner,
            )
            for name, runner in runners.items()
        ]
        kinds = {dimension.kind: dimension for dimension in ladder.dimensions}
        self._rows_dimension = kinds.get(Kind.ROWS)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run the model once, for as many rows and positions as the inputs have.

        Raises:
            RunError: An input is missing, unknown or of another dtype, the inputs disagree about a
                size, or no code was compiled that can run it.
        """
        arrays = {name: np.asarray(array) for name, array in inputs.items()}
        sizes = {d.name: _size_of(d, arrays) for d in self.ladder.dimensions}
        rungs = self._holding(sizes)
        rows = self._rows_dimension
        if rows is None:
            return self._run_padded(min(rungs, key=lambda rung: rung.energy_j), arrays, sizes)
        parts, start = [], 0
        for rung in _division(sizes[rows.name], rows.name, rungs):
            stop = min(start + rung.sizes[rows.name], sizes[rows.name])
            taken = {name: _cut(array, rows, name, start, stop) for name, array in arrays.items()}
            parts.append(self._run_padded(rung, taken, sizes | {rows.name: stop - start}))
            start = stop
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def run_rows(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run every row, however many there are; see `Runner.run_rows`.

        Raises:
            RunError: As `run`, or the number of rows of one inference is not known.
        """
        if self._rows_dimension is not None:
            return self.run(inputs)
        return super().run_rows(inputs)

    def prepare(self, inputs: Mapping[str, Array]) -> Callable[[], None]:
        """Copy the inputs once and return a call that only runs the model, for benchmarks.

        Raises:
            RunError: The inputs are not exactly of a size that was compiled.
        """
        sizes = {d.name: _size_of(d, inputs) for d in self.ladder.dimensions}
        for rung in self.rungs:
            if rung.sizes == sizes:
                return rung.runner.prepare(inputs)
        raise RunError(
            f"The model was not compiled for {_listed(sizes)}, and padding is not timed; take one "
            f"of {self._compiled()}."
        )

    def _holding(self, sizes: Mapping[str, int]) -> list[Rung]:
        """The compiled sizes that can run a request, rows aside."""

        def holds(rung: Rung, dimension: Dimension) -> bool:
            size, compiled = sizes[dimension.name], rung.sizes[dimension.name]
            if dimension.kind is Kind.EXACT:
                return size == compiled
            return dimension.kind is Kind.ROWS or 0 < size <= compiled

        found = [r for r in self.rungs if all(holds(r, d) for d in self.ladder.dimensions)]
        if not found or not all(sizes.values()):
            raise RunError(
                f"No code was compiled for {_listed(sizes)}, only for {self._compiled()}. Build "
                "the model again with that size among those of --dynamic."
            )
        # Of the padded sizes that fit, the rungs with the fewest positions.
        least = min(_positions(rung, self.ladder) for rung in found)
        return [rung for rung in found if _positions(rung, self.ladder) == least]

    def _compiled(self) -> str:
        return "; ".join(_listed(rung.sizes) for rung in self.rungs)

    def _run_padded(
        self, rung: Rung, arrays: Mapping[str, Array], sizes: Mapping[str, int]
    ) -> dict[str, Array]:
        """Run one entry point on arrays that are at most as large as it takes."""
        filled = dict(arrays)
        for dimension in self.ladder.dimensions:
            missing = rung.sizes[dimension.name] - sizes[dimension.name]
            for name, axis in dimension.inputs if missing else ():
                filled[name] = _filled(filled[name], axis, missing, dimension.kind)
        outputs = rung.runner.run(filled)
        for dimension in self.ladder.dimensions:
            size = sizes[dimension.name]
            for name, axis in dimension.outputs if size < rung.sizes[dimension.name] else ():
                outputs[name] = outputs[name][(slice(None),) * axis + (slice(size),)]
        return outputs


def _size_of(dimension: Dimension, arrays: Mapping[str, Array]) -> int:
    found: dict[str, int] = {}
    for name, axis in dimension.inputs:
        if name not in arrays:
            raise RunError(f"The input {name!r} is missing.")
        shape = np.shape(arrays[name])
        if axis >= len(shape):
            raise RunError(f"The input {name!r} has shape {shape}, without {dimension.name}.")
        found[f"{name}[{axis}]"] = shape[axis]
    if len(set(found.values())) > 1:
        raise RunError(f"The inputs disagree about {dimension.name}: {_listed(found)}.")
    return next(iter(found.values()))


def _division(count: int, name: str, rungs: Sequence[Rung]) -> list[Rung]:
    """Divide rows among runs so that the predicted joules are least; the last may be filled up.

    Beyond a few of the largest runs, what takes least per row takes least.
    """
    best_rate = min(rungs, key=lambda rung: rung.energy_j / rung.sizes[name])
    largest = max(rung.sizes[name] for rung in rungs)
    whole = max(0, (count - 2 * largest) // best_rate.sizes[name])
    rest = count - whole * best_rate.sizes[name]
    least: list[tuple[float, Rung | None]] = [(0.0, None)]
    for rows in range(1, rest + 1):
        costs = [
            (least[max(0, rows - rung.sizes[name])][0] + rung.energy_j, index)
            for index, rung in enumerate(rungs)
        ]
        cost, index = min(costs)
        least.append((cost, rungs[index]))
    taken = [best_rate] * whole
    while rest > 0:
        rung = least[rest][1]
        assert rung is not None
        taken.append(rung)
        rest -= rung.sizes[name]
    return sorted(taken, key=lambda rung: -rung.sizes[name])


def _positions(rung: Rung, ladder: Ladder) -> int:
    """Elements of the free dimensions that are filled up."""
    counted = (d.name for d in ladder.dimensions if d.kind is not Kind.ROWS)
    return math.prod([rung.sizes[name] for name in counted])


def _cut(array: Array, rows: Dimension, name: str, start: int, stop: int) -> Array:
    has_rows = any(place == name for place, _ in rows.inputs)
    return array[start:stop] if has_rows else array


def _filled(array: Array, axis: int, missing: int, kind: Kind) -> Array:
    """Copies of the last row, which is surely valid; zeros behind positions."""
    widths = [(0, missing if at == axis else 0) for at in range(array.ndim)]
    if kind is Kind.ROWS:
        return np.pad(array, widths, mode="edge")
    return np.pad(array, widths)


def _listed(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={size}" for name, size in sizes.items())
