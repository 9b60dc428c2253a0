"""Lower BatchNormalization that stands alone."""

from gcompile.passes.canonicalize.lower_batch_norm import LowerBatchNorm
from tests.passes.rewriting import check_rewrite


def test_becomes_a_multiplication_and_an_addition() -> None:
    check_rewrite(
        LowerBatchNorm(),
        """g (float[1,2,4,4] x) => (float[1,2,4,4] y)
        <float[2] gamma = {1.5, 0.5}, float[2] beta = {0.1, -0.1}, float[2] mean = {2.0, -1.0},
         float[2] var = {4.0, 0.25}> {
            y = BatchNormalization(x, gamma, beta, mean, var)
        }""",
        """
        BatchNormalization_y::product = Mul(x, BatchNormalization_y::scale)
        y = Add(BatchNormalization_y::product, BatchNormalization_y::shift)
        """,
    )
