"""Fold BatchNormalization into the product before it."""

from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.passes.canonicalize.fold_batch_norm import FoldBatchNorm
from tests.passes.rewriting import check_refusal, check_rewrite, parse

NORM = """float[2] gamma = {1.5, 0.5}, float[2] beta = {0.1, -0.1},
    float[2] mean = {2.0, -1.0}, float[2] var = {4.0, 0.25}"""
W = "float[2,1,3,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 8, 7, 6, 5, 4, 3, 2, 1}"


def test_folds_into_a_convolution_without_bias() -> None:
    record = check_rewrite(
        FoldBatchNorm(),
        f"""g (float[1,1,4,4] x) => (float[1,2,2,2] y) <{W}, {NORM}> {{
            c = Conv(x, w)
            y = BatchNormalization(c, gamma, beta, mean, var)
        }}""",
        """
        y = Conv(x, BatchNormalization_y::weight, BatchNormalization_y::bias)
        """,
    )
    assert record.changed == 1
    assert record.after.total.energy_j < record.before.total.energy_j


def test_a_weight_that_others_read_stays_as_it_is_for_them() -> None:
    check_rewrite(
        FoldBatchNorm(),
        f"""g (float[1,1,4,4] x) => (float[1,2,2,2] y, float[1,2,2,2] z)
        <{W}, float[2] b = {{1, 2}}, {NORM}> {{
            c = Conv(x, w, b)
            n = BatchNormalization(c, gamma, beta, mean, var)
            y = Relu(n)
            z = Conv(x, w, b)
        }}""",
        """
        c = Conv(x, BatchNormalization_n::weight, BatchNormalization_n::bias)
        y = Relu(c)
        z = Conv(x, w, b)
        """,
    )


def test_transposed_convolutions_have_their_output_channels_in_the_second_axis() -> None:
    check_rewrite(
        FoldBatchNorm(),
        f"""g (float[1,4,3,3] x) => (float[1,2,4,4] y)
        <float[4,1,2,2] w = {{1, 2, 3, 4, 5, 6, 7, 8, 8, 7, 6, 5, 4, 3, 2, 1}}, {NORM}> {{
            c = ConvTranspose<group = 2>(x, w)
            y = BatchNormalization(c, gamma, beta, mean, var)
        }}""",
        """
        y = ConvTranspose<group=2>(x, BatchNormalization_y::weight, BatchNormalization_y::bias)
        """,
    )


def test_a_matrix_product_becomes_a_gemm() -> None:
    check_rewrite(
        FoldBatchNorm(),
        f"""g (float[3,2] x) => (float[3,2] y) <float[2,2] w = {{1, 2, 3, 4}}, {NORM}> {{
            m = MatMul(x, w)
            y = BatchNormalization(m, gamma, beta, mean, var)
        }}""",
        """
        y = Gemm(x, BatchNormalization_y::weight, BatchNormalization_y::bias)
        """,
    )


def test_scales_of_a_gemm_are_kept() -> None:
    check_rewrite(
        FoldBatchNorm(),
        f"""g (float[3,2] x) => (float[3,2] y)
        <float[2,2] w = {{1, 2, 3, 4}}, float[2] c = {{1, 2}}, {NORM}> {{
            m = Gemm<alpha = 0.5, beta = 3.0, transB = 1>(x, w, c)
            y = BatchNormalization(m, gamma, beta, mean, var)
        }}""",
        """
        y = Gemm<alpha=0.5, transB=1>(x, BatchNormalization_y::weight, BatchNormalization_y::bias)
        """,
    )


def test_works_inside_a_branch_on_captured_weights() -> None:
    check_rewrite(
        FoldBatchNorm(),
        f"""g (bool p, float[1,1,4,4] x) => (float[1,2,2,2] y) <{W}, {NORM}> {{
            y = If(p) <
                then_branch = a () => (float[1,2,2,2] o) {{
                    c = Conv(x, w)
                    o = BatchNormalization(c, gamma, beta, mean, var)
                }},
                else_branch = b () => (float[1,2,2,2] o) {{ o = Conv(x, w) }}
            >
        }}""",
        """
        y = If(p)
          else_branch:
            o = Conv(x, w)
          then_branch:
            o = Conv(x, BatchNormalization_o::weight, BatchNormalization_o::bias)
        """,
    )


def test_folds_exactly_what_the_equation_says() -> None:
    model = parse(
        f"""g (float[1,1,4,4] x) => (float[1,2,2,2] y) <{W}, {NORM}> {{
            c = Conv(x, w)
            y = BatchNormalization<epsilon = 0.0>(c, gamma, beta, mean, var)
        }}"""
    )
    weight = np.asarray(ir.constant_array(model.graph[0].inputs[1]), np.float32)
    FoldBatchNorm().run(model, testing.example_context())
    folded, bias = (ir.constant_array(v) for v in model.graph[0].inputs[1:])
    scale = np.array([0.75, 1.0], np.float32)
    np.testing.assert_array_equal(np.asarray(folded), weight * scale.reshape(2, 1, 1, 1))
    np.testing.assert_allclose(np.asarray(bias), [0.1 - 2 * 0.75, -0.1 + 1.0], rtol=1e-7)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("c = Relu(x2) y = BatchNormalization(c, gamma, beta, mean, var)",
         "its input is not a product"),
        ("c = Conv(x, w) y = BatchNormalization(c, gamma, beta, mean, var) z = Relu(c)",
         "the product has another reader"),
        ("c = Conv(x, v) y = BatchNormalization(c, gamma, beta, mean, var)",
         "the weight is not constant"),
        ("c = Conv(x, w, d) y = BatchNormalization(c, gamma, beta, mean, var)",
         "the bias is not constant"),
        ("c = Conv(x, w) y = BatchNormalization(c, d, beta, mean, var)",
         "a parameter of the normalization is not constant"),
        ("c = Conv(x, w) y = BatchNormalization(c, gamma, beta, mean, minus)",
         "a variance is not positive"),
        ("c = Conv(x, w) y = BatchNormalization(c, huge, beta, mean, var)",
         "the folded constants would overflow"),
    ],
)  # fmt: skip
def test_refuses_with_a_reason(body: str, reason: str) -> None:
    outputs = "float[1,2,2,2] y" + (", float[1,2,2,2] z" if "z =" in body else "")
    inputs = "float[1,1,4,4] x, float[1,2,2,2] x2, float[2,1,3,3] v, float[2] d"
    extra = "float[2] minus = {-1, 1}, float[2] huge = {3e38, 3e38}"
    check_refusal(
        FoldBatchNorm(),
        f"g ({inputs}) => ({outputs}) <{W}, {NORM}, {extra}> {{ {body} }}",
        reason,
    )


def test_training_mode_is_not_folded() -> None:
    model = parse(f"""g (float[1,1,4,4] x) => (float[1,2,2,2] y) <{W}, {NORM}> {{
        c = Conv(x, w)
        y = BatchNormalization(c, gamma, beta, mean, var)
    }}""")
    norm = list(model.graph)[-1]
    norm.attributes["training_mode"] = ir.Attr("training_mode", ir.AttributeType.INT, 1)
    record = FoldBatchNorm().apply(model, testing.example_context())
    assert tuple(record.skipped) == ("the normalization is in training mode",)
