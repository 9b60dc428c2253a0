"""Compiled code is held against the reference, as closely as the numbers allow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest

from gcompile import ir
from gcompile.backends.verify import (
    Noise,
    saturating_outputs,
    seeded_inputs,
    tolerance_for,
    verify_outputs,
)
from gcompile.errors import VerificationError
from gcompile.passes import Arrays, Numerics

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
PLAIN = "g (float[2,3] x) => (float[2,3] y) { y = Relu(x) }"
EXACT, ROUNDING, LOSSY = Numerics.EXACT, Numerics.ROUNDING, Numerics.LOSSY


def model_of(text: str) -> ir.Model:
    return ir.parse(HEADER + text)


def agree(got: object, want: object, tolerance: float = 1e-4) -> None:
    """Compare two single outputs over one batch."""
    outputs = {"y": np.asarray(got)}, {"y": np.asarray(want)}
    verify_outputs(lambda _: outputs[0], lambda _: outputs[1], [{}], tolerance)


@pytest.mark.parametrize(
    ("numerics", "tolerance"),
    [((), 1e-4), ((EXACT,), 1e-4), ((EXACT, ROUNDING), 1e-4), ((EXACT, LOSSY), 0.1)],
)
def test_the_tolerance_follows_from_what_passes_may_do(
    numerics: tuple[Numerics, ...], tolerance: float
) -> None:
    assert tolerance_for(model_of(PLAIN), numerics) == tolerance


@pytest.mark.parametrize(
    ("text", "tolerance"),
    [
        ("g (float16[2] x) => (float16[2] y) { y = Relu(x) }", 2e-2),
        ("g (float[2] x) => (float16[2] y) { y = Cast<to = 10>(x) }", 2e-2),
        (
            """g (float[2] x) => (float[2] y) <float s = {0.1}, uint8 z = {3}>
            { q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }""",
            0.1,
        ),
        (
            """g (uint8[2] x) => (float[2] y) <float s = {0.1}, uint8 z = {3}>
            { y = DequantizeLinear(x, s, z) }""",
            1e-4,
        ),
    ],
)
def test_models_that_round_on_their_own_are_given_room(text: str, tolerance: float) -> None:
    assert tolerance_for(model_of(text), [EXACT]) == tolerance


def test_differences_count_as_a_share_of_the_range() -> None:
    agree([1000.0, 0.05], [1000.0, 0.0])
    with pytest.raises(VerificationError, match=r"allow 0\.01%"):
        agree([1000.0, 0.2], [1000.0, 0.0])


def test_sigmoids_far_from_zero_are_as_small_as_their_rounding() -> None:
    model = model_of(
        """g (float[2,3] x) => (float[3,2] y, float[2,3] z) {
            s = Sigmoid(x) y = Transpose(s) z = Relu(s)
        }"""
    )
    assert saturating_outputs(model) == {"y"}
    want, got = {"y": np.array([1.5e-7, 0.0])}, {"y": np.array([6e-8, 1e-7])}
    verify_outputs(lambda _: got, lambda _: want, [{}], 1e-4, saturating={"y"})
    with pytest.raises(VerificationError):
        verify_outputs(lambda _: got, lambda _: want, [{}], 1e-4)
    with pytest.raises(VerificationError):
        verify_outputs(
            lambda _: {"y": np.array([0.5, 0.0])},
            lambda _: {"y": np.array([0.5001, 0.0])},
            [{}],
            1e-4,
            saturating={"y"},
        )


def test_outputs_that_are_zero_are_compared_as_they_are() -> None:
    agree([0.0, 1e-5], [0.0, 0.0])
    with pytest.raises(VerificationError):
        agree([0.0, 1e-3], [0.0, 0.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_must_stand_in_the_same_place(value: float) -> None:
    agree([value, 1.0], [value, 1.0])
    with pytest.raises(VerificationError):
        agree([1.0, 1.0], [value, 1.0])
    with pytest.raises(VerificationError):
        agree([value, 1.0], [1.0, 1.0])


def test_opposite_infinities_differ() -> None:
    with pytest.raises(VerificationError):
        agree([np.inf, 1.0], [-np.inf, 1.0])


def test_integers_may_differ_in_few_places() -> None:
    want = np.arange(20_000) % 10
    got = want.copy()
    got[7] = 3
    agree(got, want)
    with pytest.raises(VerificationError):
        agree(got[:100], want[:100])


def test_truth_values_are_compared() -> None:
    agree([True, False], [True, False])
    with pytest.raises(VerificationError):
        agree([True, True], [True, False])


@pytest.mark.parametrize(
    "got", [np.zeros((3, 2), np.float32), np.zeros((2, 3), np.float64), np.zeros(6, np.float32)]
)
def test_shapes_and_types_must_be_those_of_the_reference(got: ir.Array) -> None:
    with pytest.raises(VerificationError, match="the reference gives float32"):
        agree(got, np.zeros((2, 3), np.float32))


def test_empty_outputs_agree() -> None:
    agree(np.zeros((0, 3)), np.zeros((0, 3)))


def test_the_worst_output_of_the_worst_batch_is_reported() -> None:
    def reference(batch: Arrays) -> Mapping[str, ir.Array]:
        return {"a": np.array([10.0]), "b": np.array([1.0])}

    def compiled(batch: Arrays) -> Mapping[str, ir.Array]:
        return {"a": np.array([10.0]), "b": np.array([1.0]) + batch["error"]}

    batches = [{"error": np.array([e])} for e in (0.0, 3e-5, 1e-5)]
    found = verify_outputs(compiled, reference, batches, 1e-4)
    assert (found.rows, found.output, found.tolerance) == (3, "b", 1e-4)
    assert found.max_abs_error == pytest.approx(3e-5)
    assert found.relative_error == pytest.approx(3e-5)
    assert found.cosine == pytest.approx(1.0)


def test_a_step_of_a_quantized_model_is_held_against_the_noise_of_quantizing() -> None:
    """Half of the batches keep within the tolerance, the others within twice the noise."""
    want, noise = np.array([1.0, 2.0]), np.array([0.0, 0.4])

    def compiled(batch: Arrays) -> Mapping[str, ir.Array]:
        return {"y": want + batch["step"]}

    def verify(steps: list[float]) -> None:
        verify_outputs(
            compiled,
            lambda _: {"y": want},
            [{"step": np.array([0.0, step])} for step in steps],
            0.1,
            Noise.of_quantizing(lambda _: {"y": want + noise}),
        )

    verify([0.0, 0.6])
    with pytest.raises(VerificationError):
        verify([0.0, 1.0])
    with pytest.raises(VerificationError):
        verify([0.0, 0.6, 0.6])


def test_half_of_what_quantizing_moved_is_the_same_approximation() -> None:
    """Quantizing moved the outputs by 0.44 of their range; these differ by 0.2 and by 0.25."""

    def verify(step: float) -> None:
        verify_outputs(
            lambda _: {"y": np.array([1.0, 2.0 + step])},
            lambda _: {"y": np.array([1.0, 2.0])},
            [{}, {}],
            0.1,
            Noise.of_quantizing(lambda _: {"y": np.array([1.0, 3.6])}),
        )

    verify(0.4)
    with pytest.raises(VerificationError):
        verify(0.5)


def test_seeded_inputs_have_the_types_and_shapes_of_the_model() -> None:
    model = model_of("""
        g (float[2,3] x, int64[4] i, bool[5] q, float16 h) => (float[2,3] y) { y = Relu(x) }""")
    made = seeded_inputs(model, 3)
    found = {name: (str(array.dtype), array.shape) for name, array in made.items()}
    assert found == {
        "x": ("float32", (2, 3)), "i": ("int64", (4,)), "q": ("bool", (5,)), "h": ("float16", ()),
    }  # fmt: skip
    again, other = seeded_inputs(model, 3), seeded_inputs(model, 4)
    np.testing.assert_array_equal(made["x"], again["x"])
    assert (made["x"] != other["x"]).any()
    assert made["i"].min() >= 0


def test_a_model_that_amplifies_rounding_is_held_against_what_rounding_does() -> None:
    def reference(batch: Arrays) -> Mapping[str, ir.Array]:
        return {"y": 100 * (batch["x"].astype(np.float64) - 1)}

    def verify(error: float) -> None:
        verify_outputs(
            lambda batch: {"y": 100 * (batch["x"].astype(np.float64) - 1) + error},
            reference,
            [{"x": np.array([1.0, 1.1], np.float32)}],
            1e-6,
            Noise.of_rounding(reference, seed=0),
        )

    verify(1e-4)  # 64 steps of 2 ** -23, a hundredfold, are 7.6e-4.
    with pytest.raises(VerificationError):
        verify(1e-3)
