"""Hold a pass to its contract. For everybody who writes passes, here or in a plug-in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import numpy as np

from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.energy import Estimate, Roofline, estimate
from gcompile.passes import Arrays, Numerics, Pass, PassContext, PassRecord
from gcompile.targets import Memory, Target, Unit

__all__ = [
    "NARROW_TOLERANCE",
    "ROUNDING_TOLERANCE",
    "assert_close",
    "check_pass",
    "check_regions",
    "example_context",
    "example_inputs",
    "example_target",
    "rounding_tolerance",
    "run",
    "to_lines",
]

ROUNDING_TOLERANCE = 2e-5
"""Largest difference a ROUNDING pass may make, relative to the largest output: about 160 times the
spacing of float32 numbers near 1."""

NARROW_TOLERANCE = 1e-2
"""The same where the model itself rounds to 16 or 8 bits on the way: another rounding before may
end one step beside, and a step is up to 1/128 there."""


def example_target() -> Target:
    """A small invented processor, for tests that need some target and no particular one."""
    return Target(
        name="example",
        kind="cpu",
        description="An invented processor with one vector unit and two levels of memory.",
        boundary="chip",
        isa=frozenset(),
        cores=2,
        clock_hz=1e9,
        units=(
            Unit("vector", "simd", ir.Precision.FP32, 1e10, 0.5, 2e-12),
            Unit("vector-int8", "simd", ir.Precision.INT8, 4e10, 0.5, 5e-13),
        ),
        memories=(
            Memory("L1", 32768.0, 1e11, 1e-12, per_core=True),
            Memory("DRAM", 1e9, 1e10, 5e-11),
        ),
        static_w=0.1,
        launch_s=1e-6,
        launch_j=1e-7,
        relative_error=0.6,
    )


def example_context(*, calibration: Arrays | None = None, seed: int = 0) -> PassContext:
    """A context on the example target; the runner is ONNX Runtime, without optimizations."""
    return PassContext(example_target(), Roofline(), seed, 1, calibration, OnnxRuntime())


def example_inputs(model: ir.Model, seed: int = 0) -> dict[str, ir.Array]:
    """Draw one batch of inputs: normal floats, integers from 0 to 3, random truth values."""
    rng = np.random.default_rng(seed)
    inputs: dict[str, ir.Array] = {}
    for value in model.graph.inputs:
        dtype, shape = value.dtype or ir.DataType.FLOAT, ir.static_shape(value)
        if dtype.is_floating_point():
            drawn = np.asarray(rng.standard_normal(shape))
        else:
            drawn = np.asarray(rng.integers(0, 2 if dtype is ir.DataType.BOOL else 4, shape))
        inputs[str(value.name)] = drawn.astype(dtype.numpy())
    return inputs


def run(model: ir.Model, inputs: Arrays) -> dict[str, ir.Array]:
    """Run a model once in ONNX Runtime as it is, with every optimization switched off."""
    return OnnxRuntime()(model, inputs)


def check_pass(
    pass_: Pass,
    model: ir.Model,
    *,
    ctx: PassContext | None = None,
    inputs: Arrays | None = None,
    seed: int = 0,
) -> PassRecord:
    """Hold a pass to its contract on one model, which it rewrites; return its record.

    Args:
        pass_: The pass, options set.
        model: A ready model.
        ctx: What the pass may know; the example target by default.
        inputs: What the outputs are compared on; drawn from `seed` by default.
        seed: Where drawing starts.

    Raises:
        AssertionError: Naming the clause of the contract that is broken.
    """
    ctx = ctx or example_context(seed=seed)
    inputs = inputs if inputs is not None else example_inputs(model, seed)
    text, interface = _text(model), _interface(model)
    expected, tolerance = run(model, inputs), rounding_tolerance(model)
    environment = dict(os.environ)

    ir.verify(model)
    record = pass_.apply(model, ctx)
    ir.verify(model)

    name = pass_.name
    assert _interface(model) == interface, f"{name} changed the inputs or outputs of the model"
    assert (record.changed > 0) == (_text(model) != text), (
        f"{name} says it made {record.changed} rewrites, and the model shows something else"
    )
    assert all(record.skipped), f"{name} refused a node without a reason"
    assert not ctx.skipped, f"{name} left refusals behind that are not in its record"
    assert dict(os.environ) == environment, f"{name} changed the environment"
    _check_ledger(record, model, ctx)
    _check_outputs(pass_, expected, run(model, inputs), tolerance)
    _check_second_run(pass_, model, ctx)
    return record


def rounding_tolerance(model: ir.Model) -> float:
    """How far a ROUNDING pass may move the outputs of this model, relative to the largest."""
    narrow = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.INT8, ir.DataType.UINT8)
    values = (value for node in ir.all_nodes(model) for value in node.outputs)
    return NARROW_TOLERANCE if any(v.dtype in narrow for v in values) else ROUNDING_TOLERANCE


def assert_close(
    want: Mapping[str, ir.Array], got: Mapping[str, ir.Array], tolerance: float
) -> None:
    """Compare outputs: differences may reach `tolerance` times the largest number expected.

    Raises:
        AssertionError: Naming the output and the largest difference.
    """
    assert list(want) == list(got), f"the outputs are {list(got)}, not {list(want)}"
    for name, expected in want.items():
        actual = got[name]
        assert actual.dtype == expected.dtype, f"{name} is {actual.dtype}, not {expected.dtype}"
        assert actual.shape == expected.shape, f"{name} is {actual.shape}, not {expected.shape}"
        if not np.issubdtype(expected.dtype, np.floating):
            np.testing.assert_array_equal(actual, expected, err_msg=name)
            continue
        wide, exact = actual.astype(np.float64), expected.astype(np.float64)
        finite = np.isfinite(exact)
        scale = float(np.max(np.abs(exact), where=finite, initial=0.0))
        np.testing.assert_allclose(wide, exact, rtol=0, atol=tolerance * scale, err_msg=name)


def to_lines(model: ir.Model) -> str:
    """Write the nodes as ONNX text, one a line, branches indented: before and after in tests."""
    return "\n".join(_lines(model.graph, ""))


def check_regions(model: ir.Model) -> None:
    """Check what code generation relies on: regions run one after the other, as listed.

    Raises:
        AssertionError: A region is read before it has run, or a value inside one is read outside.
    """
    for graph in ir.all_graphs(model):
        produced: set[ir.Value] = set()
        inside = {value for node in graph for value in node.outputs}
        for region in ir.regions(graph):
            late = [v.name for v in region.inputs if v in inside and v not in produced]
            assert not late, f"region {region.name!r} reads {late} before they exist"
            last = region.nodes[-1]
            escaped = [v.name for v in region.outputs if v.producer() is not last]
            assert not escaped, f"values {escaped} inside region {region.name!r} are read outside"
            produced.update(value for node in region.nodes for value in node.outputs)


def _lines(graph: ir.Graph, indent: str) -> Iterator[str]:
    for node in graph:
        outputs = ", ".join(str(value.name) for value in node.outputs)
        inputs = ", ".join(str(value.name) if value else "" for value in node.inputs)
        plain = {k: a for k, a in node.attributes.items() if a.type is not ir.AttributeType.GRAPH}
        listed = ", ".join(f"{name}={_attribute(attr)}" for name, attr in sorted(plain.items()))
        yield f"{indent}{outputs} = {node.op_type}{f'<{listed}>' if listed else ''}({inputs})"
        for name in sorted(node.attributes.keys() - plain.keys()):
            yield f"{indent}  {name}:"
            yield from _lines(node.attributes[name].as_graph(), indent + "    ")


def _attribute(attr: ir.Attr) -> str:
    value = list(attr.value) if isinstance(attr.value, tuple) else attr.value
    return str(value)


def _text(model: ir.Model) -> str:
    """The nodes with their metadata. Unused constants may go without being counted."""
    return "\n".join(
        f"{node!r} {sorted(node.metadata_props.items())}" for node in ir.all_nodes(model)
    )


def _interface(model: ir.Model) -> list[tuple[str | None, object, str]]:
    values = [*model.graph.inputs, *model.graph.outputs]
    return [(value.name, value.dtype, str(value.shape)) for value in values]


def _check_ledger(record: PassRecord, model: ir.Model, ctx: PassContext) -> None:
    assert isinstance(record.before, Estimate)
    after = estimate(model, ctx.target, ctx.energy, ctx.threads)
    assert record.after.total == after.total, f"{record.name} has a wrong estimate in its record"
    assert record.before.boundary == record.after.boundary


def _check_outputs(pass_: Pass, want: Arrays, got: Arrays, tolerance: float) -> None:
    if pass_.numerics is Numerics.EXACT:
        assert list(want) == list(got)
        for output, expected in want.items():
            same = got[output].tobytes() == expected.tobytes()
            assert same, f"{pass_.name} says EXACT, and output {output!r} has other bits"
    elif pass_.numerics is Numerics.ROUNDING:
        assert_close(want, got, tolerance)


def _check_second_run(pass_: Pass, model: ir.Model, ctx: PassContext) -> None:
    once = _text(model)
    again = pass_.apply(model, ctx)
    assert again.changed == 0, f"{pass_.name}: a second run made {again.changed} rewrites"
    assert _text(model) == once, f"{pass_.name}: a second run changed the model, uncounted"
