"""Hold compiled code against the reference: every build is checked before it is handed over."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import VerificationError
from gcompile.passes import Arrays, Numerics
from gcompile.passes.precision import of_one_size

Array = NDArray[np.generic]

_TOLERANCE = {Numerics.EXACT: 1e-4, Numerics.ROUNDING: 1e-4, Numerics.LOSSY: 0.1}
"""Largest error as a share of the output's range. Compiled code sums in another order than the
reference even when every pass is exact. A lossy model is compared with the reference running the
same quantized graph: there a sum that lies on a rounding boundary moves a value by one step."""

_HALF_PRECISION_TOLERANCE = 2e-2
_MOVES = frozenset(
    {"Cast", "Flatten", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
_REDUCED = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
_SATURATED_EXTENT = 0.01
"""A sigmoid far from zero is smaller than the rounding of its own approximation, the reference's
too: the range of such an output counts as at least so much."""
_QUANTIZES = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})


@dataclass(frozen=True)
class Agreement:
    """How close compiled outputs are to the reference's.

    Attributes:
        max_abs_error: Largest absolute difference, in the units of the output.
        relative_error: The same as a share of that output's range. For integers and truth values
            the share of them that differ, where that is smaller.
        cosine: Smallest cosine similarity over the outputs.
        tolerance: The relative error that was allowed.
        output: The output with the largest relative error.
    """

    max_abs_error: float
    relative_error: float
    cosine: float
    tolerance: float
    rows: int
    output: str = ""


@dataclass(frozen=True)
class Noise:
    """What may excuse compiled code: the reference, disturbed as much as code may disturb it.

    Attributes:
        outputs: The reference's outputs for a batch, after the disturbance.
        times: How often its largest relative error over all batches compiled code may reach.
        share: The largest share of batches that may need the excuse.
        own: What a batch may differ by without counting among these, as a share of how far the
            disturbance moved this very batch.
    """

    outputs: Callable[[Arrays], Mapping[str, Array]]
    times: float
    share: float
    own: float = 0.0

    @classmethod
    def of_quantizing(cls, original: Callable[[Arrays], Mapping[str, Array]]) -> Noise:
        """The model before it was quantized.

        A sum on a rounding boundary moves a value by one step, and deep networks can amplify that
        as far as quantization itself moved the outputs. Code that differs from the quantized
        reference by half of what that differs from the original is the same approximation.
        """
        return cls(original, times=2.0, share=0.5, own=0.5)

    @classmethod
    def of_rounding(cls, reference: Callable[[Arrays], Mapping[str, Array]], seed: int) -> Noise:
        """The inputs, each moved by one step of fp32.

        A network that amplifies such a step amplifies the rounding of all its layers as well;
        Winograd's transforms round up to some tens of times as coarsely as sums do.
        """

        def moved(batch: Arrays) -> Mapping[str, Array]:
            rng = np.random.default_rng(seed)
            return reference({name: _one_step_off(array, rng) for name, array in batch.items()})

        return cls(moved, times=64.0, share=1.0)


def _one_step_off(array: Array, rng: np.random.Generator) -> Array:
    if array.dtype.kind != "f":
        return array
    signs = rng.choice(np.array([-1.0, 1.0], np.float32), array.shape)
    factors = 1 + signs * np.float32(2**-23)
    moved: Array = (array.astype(np.float32) * factors).astype(array.dtype)
    return moved


def tolerance_for(model: ir.Model, numerics: Iterable[Numerics]) -> float:
    """The relative error allowed after passes with these numerics on this model.

    A model that came quantized, or that stores halves, rounds as a lossy pass would make it round.
    """
    allowed = {_TOLERANCE[n] for n in (Numerics.EXACT, *numerics)}
    nodes = list(ir.all_nodes(model))
    values = [*model.graph.inputs, *(value for node in nodes for value in node.outputs)]
    if any(value.dtype in _REDUCED for value in values):
        allowed.add(_HALF_PRECISION_TOLERANCE)
    if any(node.op_type in _QUANTIZES for node in nodes):
        allowed.add(_TOLERANCE[Numerics.LOSSY])
    return max(allowed)


def saturating_outputs(model: ir.Model) -> frozenset[str]:
    """The outputs that are sigmoids, but for operators that only move what they are given."""
    return frozenset(str(value.name) for value in model.graph.outputs if _is_sigmoid(value))


def _is_sigmoid(value: ir.Value | None) -> bool:
    node = value.producer() if value is not None else None
    if node is None or node.domain:
        return False
    if node.op_type in _MOVES:
        return _is_sigmoid(node.inputs[0])
    if node.op_type == "Concat":
        return any(_is_sigmoid(part) for part in node.inputs)
    return node.op_type == "Sigmoid"


def seeded_inputs(model: ir.Model, seed: int) -> dict[str, Array]:
    """Random inputs for a numeric check: normal floats, and integers 0 and 1.

    Integers are mostly indices, of which a lookup table surely has these two.
    """
    rng = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for value in model.graph.inputs:
        dtype = (value.dtype or ir.DataType.FLOAT).numpy()
        shape = ir.static_shape(value)
        if np.issubdtype(dtype, np.integer) or dtype == np.bool_:
            made[str(value.name)] = rng.integers(0, 2, shape).astype(dtype)
        else:
            made[str(value.name)] = rng.standard_normal(shape).astype(dtype)
    return made


def verify_outputs(
    compiled: Callable[[Arrays], Mapping[str, Array]],
    reference: Callable[[Arrays], Mapping[str, Array]],
    batches: Iterable[Arrays],
    tolerance: float,
    noise: Noise | None = None,
    saturating: Set[str] = frozenset(),
    counted: Set[str] = frozenset(),
) -> Agreement:
    """Run both on every batch and compare.

    Args:
        compiled: Gives the outputs of the code for a batch.
        reference: Gives those of the reference.
        batches: Inputs by name.
        tolerance: The relative error that needs no excuse.
        noise: What excuses a larger one.
        saturating: Outputs that are sigmoids.
        counted: Outputs whose size the data decides: rows that only one of both has differ by all
            they hold.

    Raises:
        VerificationError: An output differs by more than is allowed.
    """
    worst = Agreement(0.0, 0.0, 1.0, tolerance, 0)
    tried = list(batches)
    wanted = [reference(batch) for batch in tried]
    found = [
        _compare_all(compiled(batch), want, saturating, counted)
        for batch, want in zip(tried, wanted, strict=True)
    ]
    for agreement in found:
        worst = _worse(worst, agreement)
    beyond = [agreement for agreement in found if not agreement.relative_error <= tolerance]
    if beyond and noise is None:
        raise _disagreement(beyond[0], tolerance)
    if beyond and noise is not None:
        moved = [
            _compare_all(want, noise.outputs(batch), saturating, counted).relative_error
            for batch, want in zip(tried, wanted, strict=True)
        ]
        allowed = [max(tolerance, noise.own * error) for error in moved]
        beyond = [
            a for a, most in zip(found, allowed, strict=True) if not a.relative_error <= most
        ]
        most = noise.times * max(moved)
        wrong = [agreement for agreement in beyond if not agreement.relative_error <= most]
        if wrong or len(beyond) > noise.share * worst.rows:  # NaN is wrong, too.
            raise _disagreement((wrong or beyond)[0], tolerance)
    return worst


def _compare_all(
    got: Mapping[str, Array],
    want: Mapping[str, Array],
    saturating: Set[str],
    counted: Set[str],
) -> Agreement:
    """Compare every output of one batch."""
    worst = Agreement(0.0, 0.0, 1.0, 0.0, 0)
    for name, expected in want.items():
        least = _SATURATED_EXTENT if name in saturating else 0.0
        pair = _filled_up(got[name], expected) if name in counted else (got[name], expected)
        worst = _worse(worst, _compare(name, *pair, least))
    return replace(worst, rows=1)


def _filled_up(got: Array, want: Array) -> tuple[Array, Array]:
    """Both as large as the larger, in their own types."""
    one, other = of_one_size(got, want)
    return one.astype(got.dtype), other.astype(want.dtype)


def _compare(name: str, got: Array, want: Array, least_extent: float) -> Agreement:
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        raise VerificationError(
            f"Output {name!r} is {got.dtype} of shape {got.shape}, the reference gives "
            f"{want.dtype} of shape {want.shape}. Please report this model as a bug."
        )
    actual, expected = got.astype(np.float64), want.astype(np.float64)
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(actual - expected))
    finite = expected[np.isfinite(expected)]
    extent = max(float(np.abs(finite).max(initial=0.0)), least_extent)
    error = float(difference.max(initial=0.0))
    relative = error / extent if extent else error
    if want.dtype.kind in "iub" and want.size:
        relative = min(relative, float(np.mean(~same)))
    if math.isnan(relative):
        relative = math.inf
    return Agreement(error, relative, _cosine(actual, expected), 0.0, 0, name)


def _disagreement(found: Agreement, tolerance: float) -> VerificationError:
    return VerificationError(
        f"Output {found.output!r} of the compiled code differs from ONNX Runtime by "
        f"{found.max_abs_error:.3g}, {found.relative_error:.2%} of its range, and the passes that "
        f"ran allow {tolerance:.2%}. The artefact was not written; please report this model as a "
        "bug."
    )


def _worse(one: Agreement, other: Agreement) -> Agreement:
    further = other if other.relative_error > one.relative_error else one
    return Agreement(
        max(one.max_abs_error, other.max_abs_error),
        further.relative_error,
        min(one.cosine, other.cosine),
        one.tolerance,
        one.rows + other.rows,
        further.output,
    )


def _cosine(actual: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    mask = np.isfinite(actual) & np.isfinite(expected)
    a, b = actual[mask], expected[mask]
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norm if norm else 1.0
