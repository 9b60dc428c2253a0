"""Fold what is known before run time."""

from __future__ import annotations

import pytest

from gcompile import testing
from gcompile.passes import exact_pipeline
from gcompile.passes.canonicalize.fold_constants import FoldConstants
from tests.ir.weight_only import weight_only
from tests.passes.example_models import TEXTS
from tests.passes.rewriting import check_refusal, check_rewrite, parse


def test_chains_fold_in_one_run() -> None:
    record = check_rewrite(
        FoldConstants(),
        """g (float[2,3] x) => (float[2,3] y) <float[3] a = {1, 2, 3}, float two = {2}> {
            b = Mul(a, two)
            c = Neg(b)
            y = Add(x, c)
        }""",
        "y = Add(x, c)",
    )
    assert record.changed == 2


def test_shape_arithmetic_needs_only_shapes() -> None:
    model = parse(TEXTS["shape_arithmetic"])
    exact_pipeline().apply(model, testing.example_context())
    assert [node.op_type for node in model.graph] == ["Slice", "Pad"]


def test_never_inflates() -> None:
    check_refusal(
        FoldConstants(size_limit_bytes=1000),
        """g (float[100,100] x) => (float[100,100] y) <float a = {1}, int64[2] s = {100, 100}> {
            c = Expand(a, s)
            y = Add(x, c)
        }""",
        "the constant would be larger than its inputs and size_limit_bytes",
    )


@pytest.mark.parametrize(
    "made", ["ConstantOfShape(s)", "Range(zero, count, one)"], ids=["ConstantOfShape", "Range"]
)
def test_what_has_no_kernel_is_folded_whatever_its_size(made: str) -> None:
    model = parse(
        f"""g (float[20000] x) => (float[20000] y)
        <int64[1] s = {{20000}}, float zero = {{0}}, float count = {{20000}}, float one = {{1}}> {{
            c = {made}
            y = Add(x, c)
        }}"""
    )
    record = testing.check_pass(FoldConstants(), model)
    assert record.changed == 1
    assert [node.op_type for node in model.graph] == ["Add"]


def test_constants_of_absurd_sizes_are_refused() -> None:
    model = parse(
        """g (float[1] x) => (float[90000,90000] y) <int64[2] s = {90000, 90000}> {
            c = ConstantOfShape(s)
            y = Add(x, c)
        }"""
    )
    record = FoldConstants().apply(model, testing.example_context())
    assert tuple(record.skipped) == ("the constant would be larger than 256 MiB",)
    assert [node.op_type for node in model.graph] == ["ConstantOfShape", "Add"]


def test_stored_weights_stay_stored() -> None:
    check_refusal(
        FoldConstants(),
        """g (float[2,3] x) => (float[2,1] y) <int8[3,1] q = {1, 2, 3}, float s = {0.5}> {
            w = DequantizeLinear(q, s)
            y = MatMul(x, w)
        }""",
        "it decodes a number format that weights are stored in",
    )


def test_weights_in_blocks_of_four_bits_stay_stored() -> None:
    model = weight_only((1, 64, 16), "int4", 32, zero_points=True)
    exact_pipeline().apply(model, testing.example_context())
    kept = {str(value.dtype) for value in model.graph.initializers.values()}
    assert kept == {"INT4", "FLOAT"}
    assert [node.op_type for node in model.graph] == ["DequantizeLinear", "MatMul", "Relu"]


def test_graph_outputs_that_are_known_are_returned_by_an_identity() -> None:
    model = parse(
        "g (float[3] x) => (float[3] y, float[3] z) <float[3] a = {1, 2, 3}> "
        "{ b = Neg(a) y = Neg(b) z = Add(x, y) }"
    )
    FoldConstants().apply(model, testing.example_context())
    assert [node.op_type for node in model.graph] == ["Identity", "Add"]
    assert [value.name for value in model.graph.outputs] == ["y", "z"]
    again = FoldConstants().apply(model, testing.example_context())
    assert again.skipped == {"it returns a constant as a graph output": 1}


def test_random_numbers_stay_random() -> None:
    model = parse(
        """g (float[3] x) => (float[3] y) <float[3] a = {1, 2, 3}> {
            r = RandomNormalLike(a)
            y = Add(x, r)
        }"""
    )
    record = FoldConstants().apply(model, testing.example_context())
    assert record.skipped == {"the ONNX reference cannot compute it": 1}


def test_folds_inside_branches_what_is_captured() -> None:
    check_rewrite(
        FoldConstants(),
        """g (bool p, float[3] x) => (float[3] y) <float[3] a = {1, 2, 3}> {
            y = If(p) <
                then_branch = t () => (float[3] o) { n = Neg(a) o = Add(x, n) },
                else_branch = e () => (float[3] o) { o = Relu(x) }
            >
        }""",
        """
        y = If(p)
          else_branch:
            o = Relu(x)
          then_branch:
            o = Add(x, n)
        """,
    )


DECODED = """<uint8[2,3] c = {1, 2, 3, 4, 5, 6}, float s = {0.5}, uint8 z = {2}, float[2,3] w =
    {1, 2, 3, 4, 5, 6}>"""


@pytest.mark.parametrize("reader", ["Add(x, d)", "Concat<axis = 0>(x, d)", "Max(x, d)"])
def test_a_decoded_constant_that_is_no_weight_is_folded(reader: str) -> None:
    size = 4 if "Concat" in reader else 2
    check_rewrite(
        FoldConstants(),
        f"g (float[2,3] x) => (float[{size},3] y) {DECODED} {{"
        f" d = DequantizeLinear(c, s, z) y = {reader} }}",
        f"y = {reader.replace(' = ', '=')}",
    )


@pytest.mark.parametrize("moved", ["Transpose<perm = [1, 0]>(d)", "Identity(d)", "Reshape(d, n)"])
def test_a_stored_weight_stays_whatever_moves_it(moved: str) -> None:
    model = parse(
        f"""g (float[4,3] x) => (float[?,?] y) <int8[3,3] c = {{1, 2, 3, 4, 5, 6, 7, 8, 9}},
            float s = {{0.5}}, int64[2] n = {{3, 3}}>
        {{ d = DequantizeLinear(c, s) t = {moved} y = MatMul(x, t) }}"""
    )
    FoldConstants().apply(model, testing.example_context())
    assert "DequantizeLinear" in [node.op_type for node in model.graph]
