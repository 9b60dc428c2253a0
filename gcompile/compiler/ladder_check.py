"""Try with the reference runtime whether a model can run at sizes it is not compiled for.

Nothing in an ONNX file says that rows are independent or that a mask hides what is padded. So the
model itself is run on random inputs, large and small ones:

- rows together and one by one: every row must come out the same;
- positions filled up with zeros and not: every position that was given must come out the same;
- with other numbers in place of those zeros: not one bit may change. A small weight on padding, as
  a softmax without a mask gives it, shows here.

What passes was tried, not proven; what fails is refused.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.backends.verify import seeded_inputs
from gcompile.compiler.ladder import Plan
from gcompile.errors import UsageError
from gcompile.passes import Arrays
from gcompile.runtime.ladder import Dimension, Kind

TOLERANCE = 1e-4
"""Of an output's range: sums of another length are rounded in another order."""

_ROWS = 3
_SCALES = (1.0, 0.03)
"""Of random numbers: where scores are small, softmax spreads its weight over all positions."""
_NOISE = 10.0
_HALF_TOLERANCE = 2e-2


def check_ladder(plan: Plan, seed: int) -> None:
    """Try every dimension whose sizes between the compiled ones must run.

    Raises:
        UsageError: Rows influence each other, or what is filled up changes the outputs.
    """
    for dimension in plan.dimensions:
        if dimension.kind is Kind.ROWS:
            _check_rows(plan, dimension, seed)
        elif dimension.kind is Kind.PADDED:
            sizes = plan.sizes[dimension.name].compiled
            for size in sorted({sizes[0], sizes[-1] - 1} - {0, sizes[-1]}):
                _Padding(plan, dimension, size, sizes[-1]).check(seed)


def _check_rows(plan: Plan, dimension: Dimension, seed: int) -> None:
    sizes = _smallest(plan)
    together = plan.at(sizes | {dimension.name: _ROWS})
    alone = plan.at(sizes | {dimension.name: 1})
    named = {name for name, _ in dimension.inputs}
    for inputs in _inputs(together, seed):
        expected = OnnxRuntime()(together, inputs)
        for row in range(_ROWS):
            one = {n: array[row : row + 1] if n in named else array for n, array in inputs.items()}
            for name, array in OnnxRuntime()(alone, one).items():
                error = _error(array, expected[name][row : row + 1])
                if error > _tolerance(alone):
                    raise UsageError(
                        f"The free dimension {dimension.name!r} is no batch: alone, a row gives "
                        f"another {name!r} than among others (by {error:.2%} of its range). Bind "
                        "it with --shape, in an artefact for each size."
                    )


class _Padding:
    """One size of a dimension that is filled up to another."""

    def __init__(self, plan: Plan, dimension: Dimension, size: int, filled: int) -> None:
        self.dimension, self.size, self.filled = dimension, size, filled
        self.short = plan.at(_smallest(plan) | {dimension.name: size})
        self.long = plan.at(_smallest(plan) | {dimension.name: filled})

    def check(self, seed: int) -> None:
        """Compare the outputs with those of the size itself, and with other fillings."""
        rng = np.random.default_rng(seed)
        for inputs in _inputs(self.short, seed):
            expected = OnnxRuntime()(self.short, inputs)
            padded = self._filled(inputs)
            found = self._outputs(padded)
            for name, array in expected.items():
                error = _error(found[name], array)
                if error > _tolerance(self.short):
                    raise self._refusal(f"zeros change output {name!r} by {error:.2%}")
            changed = {n: self._reaches(found, padded, n, rng) for n in self._names}
            contents = [n for n in self._names if inputs[n].dtype.kind not in "iub"]
            # Integers may be masks, which decide what counts; then one of the others must not.
            contents = contents or [n for n in self._names if not changed[n]]
            reached = [n for n in contents if changed[n]] if contents else list(self._names)
            if reached:
                raise self._refusal(f"{changed[reached[0]]!r} still depends on {reached[0]!r}")

    @property
    def _names(self) -> list[str]:
        return list(dict.fromkeys(name for name, _ in self.dimension.inputs))

    def _reaches(
        self, found: Arrays, padded: Arrays, name: str, rng: np.random.Generator
    ) -> str | None:
        """The output that changes where other numbers are in the filling of one input."""
        array = padded[name]
        noise = rng.standard_normal(array.shape) * _NOISE
        other = array.copy()
        for tensor, axis in self.dimension.inputs:
            if tensor == name:
                behind = (slice(None),) * axis + (slice(self.size, None),)
                is_whole = array.dtype.kind in "iub"
                other[behind] = 1 if is_whole else noise[behind].astype(array.dtype)
        outputs = self._outputs({**padded, name: other})
        for output, values in outputs.items():
            if values.tobytes() != found[output].tobytes():
                return output
        return None

    def _filled(self, inputs: Arrays) -> dict[str, ir.Array]:
        padded = dict(inputs)
        for name, axis in self.dimension.inputs:
            behind = (0, self.filled - self.size)
            widths = [behind if at == axis else (0, 0) for at in range(padded[name].ndim)]
            padded[name] = np.pad(padded[name], widths)
        return padded

    def _outputs(self, padded: Arrays) -> dict[str, ir.Array]:
        """The outputs at the positions that were given."""
        found = OnnxRuntime()(self.long, padded)
        for name, axis in self.dimension.outputs:
            found[name] = found[name][(slice(None),) * axis + (slice(self.size),)]
        return found

    def _refusal(self, what: str) -> UsageError:
        name = self.dimension.name
        return UsageError(
            f"{self.size} of {self.filled} {name!r} cannot be filled up: {what}, so the model has "
            "no mask that hides what is behind the input. List every size that is needed, "
            f"{name}={self.size},{self.filled}, and exactly these run."
        )


def _smallest(plan: Plan) -> dict[str, int]:
    return {name: each.compiled[0] for name, each in plan.sizes.items()}


def _inputs(model: ir.Model, seed: int) -> Iterable[Arrays]:
    """Random inputs; integers are 0 and 1, as in masks, and 1 at the first of their last axis.

    A row whose mask hides everything means nothing in most models.
    """
    for scale in _SCALES:
        made = seeded_inputs(model, seed)
        for name, array in made.items():
            if array.dtype.kind in "iub" and array.ndim:
                array[..., 0] = 1
            elif array.dtype.kind not in "iub":
                made[name] = np.multiply(array, scale, dtype=array.dtype)
        yield made


def _tolerance(model: ir.Model) -> float:
    halves = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
    values = (value for node in ir.all_nodes(model) for value in node.outputs)
    return _HALF_TOLERANCE if any(value.dtype in halves for value in values) else TOLERANCE


def _error(found: ir.Array, expected: ir.Array) -> float:
    """The largest difference as a share of the range; infinite where NaN is on one side only."""
    if found.shape != expected.shape:
        return float("inf")
    one, two = found.astype(np.float64), expected.astype(np.float64)
    if not np.array_equal(np.isfinite(one), np.isfinite(two)):
        return float("inf")
    finite = np.isfinite(two)
    difference = np.abs(one[finite] - two[finite]).max(initial=0.0)
    return float(difference / (np.abs(two[finite]).max(initial=0.0) or 1.0))
