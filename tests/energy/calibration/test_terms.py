"""What each kind of region counts."""

from __future__ import annotations

from gcompile import ir
from gcompile.energy.calibration import terms_of
from tests.energy.models import conv, fused, matmul, only_region


def test_a_convolution_counts_products_what_it_writes_and_its_weights() -> None:
    terms = terms_of(only_region(conv(8, 4, 16, 3)))
    assert terms["products"] == 8 * 8 * 16 * 9 * 4
    assert terms["product_outputs"] == 8 * 8 * 16 * 4
    assert terms["product_weights"] == 16 * 9 * 4 * 4
    assert terms["operators"] == 1


def test_the_input_of_the_model_counts_where_it_is_handed_over() -> None:
    terms = terms_of(only_region(conv(8, 4, 16, 3)))
    assert terms["model_inputs"] == 8 * 8 * 4
    assert terms["product_inputs"] == 0


def test_depthwise_convolutions_load_every_pixel_for_every_tap() -> None:
    model = fused(
        "g (float[1,8,6,6] x, float[8,1,5,5] w) => (float[1,8,6,6] y)"
        " { y = Conv<group=8, pads=[2,2,2,2]>(x, w) }"
    )
    terms = terms_of(only_region(model))
    assert terms["depthwise_products"] == 6 * 6 * 8 * 25
    assert terms["depthwise_reads"] == 6 * 6 * 8 * 25 * 4
    assert terms["depthwise_weights"] == 8 * 25 * 4
    assert "products" not in terms


def test_few_rows_stream_weights() -> None:
    one, many = (terms_of(only_region(matmul(m, 64, 32))) for m in (1, 64))
    assert one["row_weights"] == 64 * 32 * 4
    assert "product_weights" not in one
    assert many["product_weights"] == 64 * 32 * 4


def test_a_skip_connection_counts_as_elementwise() -> None:
    model = fused(
        "g (float[1,4,6,6] x, float[4,4,1,1] w) => (float[1,4,6,6] y)"
        " { c = Conv(x, w)\n y = Add(c, x) }"
    )
    alone = fused("g (float[4,6] x, float[4,6] z) => (float[4,6] y) { y = Add(x, z) }")
    assert terms_of(only_region(model))["elementwise"] == 0, "x is an operand already"
    assert terms_of(only_region(alone))["elementwise"] == 3 * 24 * 4


def test_bytes_follow_the_precision_and_products_do_not() -> None:
    region = only_region(conv(8, 4, 16, 3))
    wide, narrow = terms_of(region), terms_of(region, ir.Precision.INT8)
    assert narrow["product_outputs"] == wide["product_outputs"] / 4
    assert narrow["products"] == wide["products"]
    stored = terms_of(only_region(conv(8, 4, 16, 3, 1, "int8")))
    assert stored["product_weights"] == narrow["product_weights"]


def test_views_count_nothing() -> None:
    assert (
        terms_of(
            only_region(fused("g (float[2,8] x) => (float[16] y) { y = Flatten<axis=0>(x) }"))
        )
        == {}
    )
