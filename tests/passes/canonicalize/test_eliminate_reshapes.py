"""Eliminate reshapes."""

from gcompile.passes.canonicalize.eliminate_reshapes import EliminateReshapes
from tests.passes.rewriting import check_refusal, check_rewrite


def test_only_the_last_shape_counts() -> None:
    check_rewrite(
        EliminateReshapes(),
        """g (float[2,3,4] x) => (float[1,24] y) <int64[2] a = {6, 4}, int64[1] first = {0}> {
            b = Reshape(x, a)
            c = Unsqueeze(b, first)
            y = Flatten(c)
        }""",
        "y = Reshape(x, Flatten_y::shape)",
    )


def test_there_and_back_is_nothing() -> None:
    check_rewrite(
        EliminateReshapes(),
        """g (float[2,3] x) => (float[2,3] y) <int64[1] a = {6}, int64[2] b = {2, 3}> {
            r = Relu(x)
            f = Reshape(r, a)
            y = Reshape(f, b)
        }""",
        "y = Relu(x)",
    )


def test_a_reshape_that_others_read_stays() -> None:
    check_refusal(
        EliminateReshapes(),
        """g (float[2,3] x) => (float[3,2] y, float[6] z)
        <int64[1] a = {6}, int64[2] b = {3, 2}> {
            f = Reshape(x, a)
            y = Reshape(f, b)
            z = Relu(f)
        }""",
    )
