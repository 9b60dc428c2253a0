"""A product as launches: operands by name, scratch memory, and packed weights."""

from __future__ import annotations

import numpy as np
import pytest

from gcompile.backends.cuda.kernels.block_tile import BlockTile
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.kernels.sequence import pack_weights, product_sequence, weights_pitch
from gcompile.backends.cuda.program.instruction import INSTRUCTIONS
from gcompile.ir import Contraction
from tests.backends.cuda.kernels.products import plain_epilogue, windows


@pytest.mark.parametrize("split", [1, 2])
def test_the_launches_of_a_convolution_compute_it_on_the_cpu(split: int) -> None:
    c = Contraction(1, 6, 5, 4, 6, 5, 10, 3, 3, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 6, 5, 4)).astype(np.float16)
    x[..., 3] = 0  # The model has three channels; storage has four.
    weights = rng.standard_normal((10, 3, 3, 3)).astype(np.float16)
    product = Product(
        "conv",
        INSTRUCTIONS["f16"],
        c,
        BlockTile(32, 16, 16, 16, stages=2, split=split),
        plain_epilogue(c.m, c.n),
        4,
        weights_pitch(c.k, 2),
    )
    sequence = product_sequence(product)
    assert sequence.scratch == ({"shares": 4 * 2 * c.m * c.n} if split == 2 else {})
    y = np.zeros(c.m * c.n, np.float32)
    shares = np.zeros(2 * c.m * c.n, np.float32)
    packed = pack_weights(weights, c).reshape(-1)
    memory = {"x": x.reshape(-1), "weights": packed, "shares": shares, "y": y}
    for step in sequence.steps:
        assert step.kernel.cpu is not None
        step.kernel.cpu([memory[name] for name in step.operands])
    columns = np.zeros((10, 3, 3, 4))
    columns[..., :3] = weights.transpose(0, 2, 3, 1)
    exact = windows(x.astype(np.float64), c) @ columns.reshape(10, -1).T
    np.testing.assert_allclose(y.reshape(c.m, c.n), exact, atol=1e-5)


def test_operations_count_whole_blocks() -> None:
    tile = BlockTile(32, 32, 16, 16, depth_bytes=128)
    product = Product(
        "gemm",
        INSTRUCTIONS["s8s8"],
        Contraction.matmul(33, 200, 20),
        tile,
        plain_epilogue(33, 20, "int32"),
        200,
        weights_pitch(200, 1),
    )
    (step,) = product_sequence(product).steps
    assert step.kernel.operations == 2 * 2 * 32 * 32 * 256
    assert step.kernel.unit == "tensor-core-int8"
    assert [a.name for a in step.kernel.arguments] == ["x", "weights", "y"]
