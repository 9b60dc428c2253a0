"""Passes keep their contract on models nobody wrote by hand."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gcompile import ir, testing
from gcompile.passes import Numerics, exact_pipeline, known_passes
from tests.passes.example_models import HEADER

UNARY = ["Identity", "Relu", "Neg", "Tanh", "Sigmoid", "Abs", "Transpose<perm = [0, 1, 3, 2]>",
         "Transpose<perm = [0, 1, 2, 3]>", "Cast<to = 1>", "Conv@w", "Mul@scale", "Add@scale",
         "Mul@one", "Add@zero", "Reshape@shape", "BatchNormalization@scale, scale, scale, var",
         "MaxPool<kernel_shape = [1, 1]>", "Pad@none", "Slice@from, to"]  # fmt: skip
BINARY = ["Add", "Mul", "Sub", "Max"]
CONSTANTS = """<float[4,4,1,1] w = {1, 0, -1, 0.5, 0, 1, 0, 0, 0.5, 0, -1, 0, 0, 1, 1, 1},
    float[1,4,1,1] column = {0.5, -1, 1, 2}, float[4] scale = {0.5, -1, 1, 2},
    float[4] var = {1, 2, 0.5, 1}, float one = {1}, float zero = {0},
    int64[4] shape = {1, 4, 4, 4}, int64[8] none = {0, 0, 0, 0, 0, 0, 0, 0}, int64[1] from = {0},
    int64[1] to = {4}>"""
PASSES = [kind() for kind in known_passes().values() if kind.numerics is not Numerics.LOSSY]


@st.composite
def models(draw: st.DrawFn, max_nodes: int = 14) -> ir.Model:
    """Draw a small graph whose values all have one shape."""
    values, lines = ["x"], []
    for i in range(draw(st.integers(1, max_nodes))):
        operands = [draw(st.sampled_from(values[-4:]))]
        if draw(st.booleans()):
            operator, _, more = draw(st.sampled_from(UNARY)).partition("@")
            operands += [more] if more else []
        else:
            operator = draw(st.sampled_from(BINARY))
            operands.append(draw(st.sampled_from(values)))
        lines.append(f"v{i} = {operator}({', '.join(operands)})")
        values.append(f"v{i}")
    outputs = draw(st.lists(st.sampled_from(values[1:]), min_size=1, max_size=3, unique=True))
    signature = ", ".join(f"float[1,4,4,4] {name}" for name in outputs)
    body = "\n".join(lines)
    return ir.parse(f"{HEADER} g (float[1,4,4,4] x) => ({signature}) {CONSTANTS} {{\n{body}\n}}")


@settings(
    deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(models(), st.sampled_from(PASSES))
def test_a_pass_keeps_its_contract(model: ir.Model, pass_: object) -> None:
    assert pass_ in PASSES
    testing.check_pass(PASSES[PASSES.index(pass_)], model)


@settings(
    deadline=None, max_examples=60, derandomize=True, suppress_health_check=list(HealthCheck)
)
@given(models())
def test_the_exact_pipeline_is_stable_and_its_regions_can_run(model: ir.Model) -> None:
    inputs, ctx = testing.example_inputs(model), testing.example_context()
    expected = testing.run(model, inputs)
    before = exact_pipeline().apply(model, ctx)
    testing.check_regions(model)
    testing.assert_close(expected, testing.run(model, inputs), 1e-4)
    again = exact_pipeline().apply(model, ctx)
    assert again.changed == 0
    assert again.before.total == before.after.total
