"""Which channels stand or fall together, in structures that networks are made of."""

from __future__ import annotations

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.passes.prune.groups import Group, prune_groups
from gcompile.passes.prune.remove import remove
from tests.passes.precision.models import fused
from tests.passes.prune.networks import ATTENTION

Found = dict[str, tuple[int, tuple[str, ...], tuple[str, ...]]]


def names(products: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.partition("_")[2] for name in products)


def prunable(groups: list[Group]) -> Found:
    """Size, makers and readers of every group that may be pruned, by the name of its maker."""
    return {
        name: (group.size, names(group.makers), names(group.readers))
        for group in groups
        if group.reason is None
        for name in names((group.name,))
    }


def reasons(groups: list[Group]) -> dict[str, str]:
    return {
        name: group.reason
        for group in groups
        if group.reason is not None
        for name in names((group.name,))
    }


def test_a_residual_sum_ties_what_is_added() -> None:
    groups = prune_groups(
        fused("""
        g (float[1,3,4,4] x) => (float[1,2,4,4] y)
        <float[4,3,1,1] w0, float[6,4,1,1] w1, float[4,6,1,1] w2, float[2,4,1,1] w3> {
            a = Conv(x, w0)
            b = Conv(a, w1)
            r = Relu(b)
            c = Conv(r, w2)
            s = Add(a, c)
            y = Conv(s, w3)
        }""")
    )
    assert prunable(groups) == {
        "a": (4, ("a", "c"), ("b", "y")),
        "b": (6, ("b",), ("c",)),
    }
    assert reasons(groups) == {"y": "it is an output of the model"}


def test_a_depthwise_convolution_carries_channels_through() -> None:
    groups = prune_groups(
        fused("""
        g (float[1,3,4,4] x) => (float[1,2,4,4] y)
        <float[6,3,1,1] w0, float[6,1,3,3] w1, float[6] b1, float[2,6,1,1] w2> {
            a = Conv(x, w0)
            d = Conv<group = 6, pads = [1,1,1,1]>(a, w1, b1)
            y = Conv(d, w2)
        }""")
    )
    assert prunable(groups) == {"a": (6, ("a", "d"), ("y",))}


def test_groups_of_a_convolution_go_whole() -> None:
    model = fused("""
        g (float[1,3,4,4] x) => (float[1,2,4,4] y)
        <float[6,3,1,1] w0, float[9,2,1,1] w1, float[2,9,1,1] w2> {
            a = Conv(x, w0)
            d = Conv<group = 3>(a, w1)
            y = Conv(d, w2)
        }""")
    (group,) = (g for g in prune_groups(model) if g.reason is None)
    assert group.size == 3
    remove(model, [(group, [2])])
    testing.run(model, testing.example_inputs(model))
    shapes = {str(v.name): ir.static_shape(v) for node in model.graph for v in node.outputs}
    assert shapes["a"] == (1, 2, 4, 4)
    assert shapes["d"] == (1, 3, 4, 4)


def test_a_transposed_convolution_makes_channels_along_its_second_axis() -> None:
    groups = prune_groups(
        fused("""
        g (float[1,3,4,4] x) => (float[1,2,8,8] y)
        <float[3,5,2,2] w0, float[2,5,1,1] w1> {
            a = ConvTranspose<strides = [2,2]>(x, w0)
            y = Conv(a, w1)
        }""")
    )
    assert prunable(groups) == {"a": (5, ("a",), ("y",))}


def test_joined_channels_stay_apart_and_pieces_follow_their_whole() -> None:
    groups = prune_groups(
        fused("""
        g (float[1,3,4,4] x) => (float[1,2,4,4] y)
        <float[4,3,1,1] w0, float[6,3,1,1] w1, float[3,4,1,1] w2, float[3,6,1,1] w3,
         float[2,10,1,1] w4, int64[2] sizes = {4, 6}> {
            a = Conv(x, w0)
            b = Conv(x, w1)
            j = Concat<axis = 1>(a, b)
            r = Relu(j)
            y = Conv(r, w4)
        }""")
    )
    assert prunable(groups) == {"a": (4, ("a",), ("y",)), "b": (6, ("b",), ("y",))}


def test_a_channel_that_is_flattened_owns_all_of_its_pixels() -> None:
    model = fused("""
        g (float[1,3,4,4] x) => (float[1,2] y)
        <float[4,3,1,1] w0, float[64,2] w1> {
            a = Conv(x, w0)
            p = MaxPool<kernel_shape = [1,1]>(a)
            f = Flatten(p)
            y = MatMul(f, w1)
        }""")
    (group,) = (g for g in prune_groups(model) if g.reason is None)
    weight = next(v for v in model.graph.initializers.values() if ir.static_shape(v) == (64, 2))
    np.testing.assert_array_equal(group.places(weight, 0), np.arange(64).reshape(4, 16))


def test_a_batch_normalization_goes_with_its_channels() -> None:
    model = ir.parse("""<ir_version: 10, opset_import: ["" : 21]>
        g (float[1,1,2,2] x) => (float[1,1,2,2] y)
        <float[2,1,1,1] w0 = {1, 2}, float[2] s = {1, 2}, float[2] b = {3, 4},
         float[2] m = {5, 6}, float[2] v = {7, 8}, float[1,2,1,1] w1 = {9, 10}> {
            a = Conv(x, w0)
            n = BatchNormalization(a, s, b, m, v)
            y = Conv(n, w1)
        }""")
    (group,) = (g for g in prune_groups(model) if g.reason is None)
    remove(model, [(group, [1])])
    testing.run(model, testing.example_inputs(model))
    left = [ir.constant_array(v) for v in model.graph.initializers.values()]
    assert [a.reshape(-1).tolist() for a in left if a is not None] == [
        [2], [2], [4], [6], [8], [10],
    ]  # fmt: skip


def test_a_head_of_attention_goes_with_its_queries_keys_and_values() -> None:
    groups = prune_groups(fused(ATTENTION))
    assert prunable(groups) == {"q": (3, ("q", "k", "v"), ("o",))}
    assert set(reasons(groups)) == {"o"}


def test_heads_of_queries_keys_and_values_in_one_product_are_found() -> None:
    model = fused("""
        g (float[1,3,4] x) => (float[1,3,4] y)
        <float[4,18] w, float[6,4] wo, int64[5] apart = {1, 3, 3, 3, 2},
         int64[3] ones = {1, 1, 1}, int64[3] joined = {1, 3, 6}, int64[1] two = {2}> {
            m = MatMul(x, w)
            a = Reshape(m, apart)
            t = Transpose<perm = [2, 0, 3, 1, 4]>(a)
            q1, k1, v1 = Split<axis = 0>(t, ones)
            zero = Constant<value_ints = [0]>()
            q = Squeeze(q1, zero)
            k = Squeeze(k1, zero)
            v = Squeeze(v1, zero)
            kt = Transpose<perm = [0, 1, 3, 2]>(k)
            s = MatMul(q, kt)
            p = Softmax<axis = -1>(s)
            c = MatMul(p, v)
            b = Transpose<perm = [0, 2, 1, 3]>(c)
            j = Reshape(b, joined)
            y = MatMul(j, wo)
        }""")
    (group,) = (g for g in prune_groups(model) if g.reason is None)
    assert group.size == 3
    remove(model, [(group, [0, 2])])
    testing.run(model, testing.example_inputs(model))
    assert ir.static_shape(model.graph.node("MatMul_m").outputs[0]) == (1, 3, 12)


FORWARD = """
    g (float[1,3,4] x) => (float[1,3,4] y)
    <float[4] gain, float[4] shift, float[4,4] w0, float[4,6] w1, float[6] b1, float[6,4] w2,
     float[4,4] w3> {
        e = MatMul(x, w0)
        n = LayerNormalization<axis = -1>(e, gain, shift)
        h = MatMul(n, w1)
        hb = Add(h, b1)
        r = Gelu(hb)
        o = MatMul(r, w2)
        s = Add(o, n)
        y = MatMul(s, w3)
    }"""


def test_the_width_of_a_feed_forward_block_may_shrink() -> None:
    groups = prune_groups(fused(FORWARD))
    assert prunable(groups) == {"h": (6, ("h",), ("o",))}
    assert reasons(groups)["e"] == "a LayerNormalization runs over it"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("y = Relu(h)", "it is an output of the model"),
        ("s = Softmax<axis = 1>(h)\n y = MatMul(s, v)", "a Softmax runs over it"),
        (
            "one = Constant<value_ints = [1]>()\n m = ReduceMean(h, one)\n y = Neg(m)",
            "a ReduceMean runs over it",
        ),
        ("i = ArgMax<axis = 1>(h)\n y = Cast<to = 1>(i)", "an ArgMax runs over it"),
        (
            "n = Constant<value_ints = [0, 2]>()\n p = Gather<axis = 1>(h, n)\n y = Neg(p)",
            "a Gather picks from it by number",
        ),
        ("c = Det(h)\n y = Neg(c)", "a Det touches it: there is no rule for it"),
    ],
)
def test_every_channel_that_must_stay_has_a_reason(body: str, reason: str) -> None:
    model = ir.parse(f"""<ir_version: 10, opset_import: ["" : 21]>
        g (float[4,3] x) => (float[M,N] y)
        <float[3,4] w = {{1,2,3,4,5,6,7,8,9,10,11,12}}, float[4,2] v = {{1,2,3,4,5,6,7,8}}> {{
            h = MatMul(x, w)
            {body}
        }}""")
    assert reasons(prune_groups(model))["h"] == reason
