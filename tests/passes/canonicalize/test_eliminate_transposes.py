"""Eliminate transposes."""

from gcompile.passes.canonicalize.eliminate_transposes import EliminateTransposes
from tests.passes.rewriting import check_refusal, check_rewrite


def test_two_that_cancel_go() -> None:
    check_rewrite(
        EliminateTransposes(),
        """g (float[2,3,4] x) => (float[2,3,4] y) {
            a = Transpose<perm = [2, 0, 1]>(x)
            b = Transpose<perm = [1, 2, 0]>(a)
            y = Relu(b)
        }""",
        "y = Relu(x)",
    )


def test_two_that_follow_each_other_are_one() -> None:
    check_rewrite(
        EliminateTransposes(),
        """g (float[2,3,4] x) => (float[3,4,2] y) {
            a = Transpose<perm = [2, 0, 1]>(x)
            y = Transpose<perm = [2, 0, 1]>(a)
        }""",
        "y = Transpose<perm=[1, 2, 0]>(x)",
    )


def test_they_cancel_across_elementwise_operators() -> None:
    check_rewrite(
        EliminateTransposes(),
        """g (float[2,3,4] x) => (float[2,3,4] y) <float half = {0.5}> {
            a = Transpose<perm = [0, 2, 1]>(x)
            r = Relu(a)
            m = Mul(half, r)
            y = Transpose<perm = [0, 2, 1]>(m)
        }""",
        """
        r = Relu(x)
        y = Mul(half, r)
        """,
    )


def test_moving_dimensions_of_one_is_a_reshape() -> None:
    check_rewrite(
        EliminateTransposes(),
        "g (float[1,6,1,4] x) => (float[1,1,6,4] y) { y = Transpose<perm = [0, 2, 1, 3]>(x) }",
        "y = Reshape(x, Transpose_y::shape)",
    )


def test_a_constant_that_is_not_one_number_keeps_its_axes() -> None:
    check_refusal(
        EliminateTransposes(),
        """g (float[2,3,4] x) => (float[2,3,4] y) <float[3] c = {1, 2, 3}> {
            a = Transpose<perm = [0, 2, 1]>(x)
            m = Mul(a, c)
            y = Transpose<perm = [0, 2, 1]>(m)
        }""",
    )


def test_a_value_that_others_read_stays_transposed() -> None:
    check_refusal(
        EliminateTransposes(),
        """g (float[2,3,4] x) => (float[2,3,4] y, float[2,4,3] z) {
            a = Transpose<perm = [0, 2, 1]>(x)
            r = Relu(a)
            y = Transpose<perm = [0, 2, 1]>(r)
            z = Neg(a)
        }""",
    )
