"""Which nodes run as one kernel."""

from __future__ import annotations

import textwrap

import pytest

from gcompile import ir, testing
from gcompile.passes import exact_pipeline
from gcompile.passes.fuse.duplicate_dequantize import DuplicateDequantize
from gcompile.passes.fuse.fuse_regions import FuseRegions
from gcompile.passes.pipelines import fuse_pipeline
from tests.passes.example_models import TEXTS
from tests.passes.rewriting import parse


def regions_of(model: ir.Model) -> list[str]:
    """The outputs of each region's nodes, in the order regions run."""
    return [
        " ".join(str(value.name) for node in region.nodes for value in node.outputs)
        for graph in ir.all_graphs(model)
        for region in ir.regions(graph)
    ]


def fused(text: str) -> list[str]:
    model = parse(text)
    testing.check_pass(FuseRegions(), model)
    testing.check_regions(model)
    return regions_of(model)


def image_graph(body: str, outputs: str = "float[1,4,6,6] y") -> str:
    weights = ", ".join("1" for _ in range(16))
    return f"""g (float[1,4,6,6] x, float[1,4,6,6] other, float[1,4,1,1] gate) => ({outputs})
        <float[4,4,1,1] w = {{{weights}}}, float[4,1,1] channel = {{1, 2, 3, 4}},
         float number = {{2}}, float[6] row = {{1, 2, 3, 4, 5, 6}}, int64[2] axes = {{2, 3}},
         float s = {{0.1}}, uint8 z = {{3}}, float s2 = {{0.2}}> {{ {body} }}"""


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("c = Conv(x, w) m = Mul(c, channel) a = Add(number, m) y = Relu(a)", ["c m a y"]),
        ("c = Conv(x, w) a = Add(c, other) y = Relu(a)", ["c a y"]),
        ("c = Conv(x, w) s1 = Sigmoid(c) y = Mul(c, s1)", ["c s1 y"]),
        ("c = Conv(x, w) e = Softplus(c) t = Tanh(e) y = Mul(c, t)", ["c e t y"]),
        ("c = Conv(x, w) y = Add(c, row)", ["c", "y"]),
        ("c = Conv(x, w) y = Mul(c, gate)", ["c", "y"]),
        ("c = Conv(x, w) r = Relu(c) y = Add(r, x)", ["c r y"]),
        ("c = Conv(x, w) q = QuantizeLinear(c, s, z) y = DequantizeLinear(q, s, z)",
         ["c q", "y"]),
        ("c = Conv(x, w) b = Cast<to = 16>(c) y = Cast<to = 1>(b)", ["c b", "y"]),
        ("c = Conv(x, w) p = MaxPool<kernel_shape = [1, 1]>(c) y = Relu(p)", ["c", "p y"]),
        ("p = ReduceMean<keepdims = 1>(x, axes) r = Relu(p) y = Add(r, other)", ["p r", "y"]),
        ("c = Conv(x, w) d = Conv(other, w) a = Add(c, d) y = Relu(a)", ["c", "d a y"]),
        ("c = Conv(x, w) n = Neg(other) y = Add(c, n)", ["n", "c y"]),
        ("n = Neg(x) m = Exp(other) a = Add(n, m) y = Tanh(a)", ["n m a y"]),
        ("n = Neg(x) e = Exp(n) f = Abs(n) a = Add(e, f) y = Mul(a, gate)", ["n e f a y"]),
        ("n = Neg(gate) y = Mul(x, n)", ["n", "y"]),
        ("n = Neg(x) t = Softmax(n) y = Abs(t)", ["n t y"]),
    ],
)  # fmt: skip
def test_groups(body: str, expected: list[str]) -> None:
    assert fused(image_graph(body)) == expected


def test_a_value_that_is_an_output_ends_its_region() -> None:
    body = "c = Conv(x, w) y = Relu(c)"
    assert fused(image_graph(body, "float[1,4,6,6] y, float[1,4,6,6] c")) == ["c", "y"]


def test_a_value_that_two_regions_read_ends_its_region() -> None:
    body = "c = Conv(x, w) r = Relu(c) d = Conv(r, w) e = Conv(r, w) y = Add(d, e)"
    assert fused(image_graph(body)) == ["c r", "d", "e y"]


def test_a_value_that_a_branch_reads_ends_its_region() -> None:
    model = parse(
        """g (bool p, float[3] x) => (float[3] y) {
            n = Neg(x)
            r = Relu(n)
            i = If(p) <
                then_branch = a () => (float[3] o) { t = Exp(r) o = Abs(t) },
                else_branch = b () => (float[3] u) { u = Neg(n) }
            >
            y = Add(i, r)
        }"""
    )
    FuseRegions().run(model, testing.example_context())
    testing.check_regions(model)
    assert regions_of(model) == ["n", "r", "i", "y", "u", "t o"]


def test_a_region_is_called_after_its_product() -> None:
    model = parse(image_graph("c = Conv(x, w) y = Relu(c)"))
    FuseRegions().run(model, testing.example_context())
    assert [region.name for region in ir.regions(model.graph)] == ["Conv_c"]
    assert "gcompile.region" in model.graph[1].metadata_props


def test_regions_are_found_anew_each_time() -> None:
    model = parse(image_graph("c = Conv(x, w) y = Relu(c)"))
    ctx = testing.example_context()
    assert FuseRegions().run(model, ctx) == 1
    for node in model.graph:
        ir.assign_region(node, "other")
    assert FuseRegions().run(model, ctx) == 2
    assert FuseRegions().run(model, ctx) == 0


def test_fusing_saves_the_round_trip_of_the_value_between() -> None:
    model = parse(image_graph("c = Conv(x, w) y = Relu(c)"))
    before = sum(ir.work_of(region).moved_bytes for region in ir.regions(model.graph))
    record = FuseRegions().apply(model, testing.example_context())
    (region,) = ir.regions(model.graph)
    assert before - ir.work_of(region).moved_bytes == 2 * 4 * (4 * 6 * 6)
    assert record.after.total.energy_j < record.before.total.energy_j


def test_integer_form_is_one_region_per_product() -> None:
    model = parse(TEXTS["int8_form"])
    fuse_pipeline().apply(model, testing.example_context())
    testing.check_regions(model)
    assert regions_of(model) == [
        "q",
        "d w c r rq",
        "rd v e rd::Add_a a f fq",
        "y",
    ]
    precisions = [region.precision for region in ir.regions(model.graph)]
    assert precisions == [ir.Precision.FP32, *[ir.Precision.INT8] * 3]


def test_bfloat16_form_is_one_region_per_product() -> None:
    model = parse(TEXTS["bfloat16_form"])
    fuse_pipeline().apply(model, testing.example_context())
    testing.check_regions(model)
    assert regions_of(model) == ["xb", "xf c r rb", "rf e rf::Add_a a ab", "y"]


def test_moves_work_on_stored_numbers_of_one_scale() -> None:
    model = parse(TEXTS["int8_moves"])
    fuse_pipeline().apply(model, testing.example_context())
    testing.check_regions(model)
    assert regions_of(model) == ["q", "d1 m mq", "d2 d3 k kq", "d4", "t", "tq", "y"]


def test_convolutions_keep_their_residual_blocks_together() -> None:
    model = parse(TEXTS["residual"])
    exact_pipeline().apply(model, testing.example_context())
    assert [region.op for region in ir.regions(model.graph)] == ["Conv+Relu", "Conv+Add+Relu"]


def test_the_gelu_of_a_matrix_product_is_part_of_it() -> None:
    model = parse(TEXTS["attention"])
    exact_pipeline().apply(model, testing.example_context())
    assert [region.op for region in ir.regions(model.graph)] == [
        "MatMul+Add",
        "Transpose+MatMul+Div",
        "Softmax",
        "MatMul+Div+Erf+Add+Mul+Mul",
    ]


def test_each_reader_gets_its_own_decoder() -> None:
    model = parse(
        """g (uint8[3] q) => (float[3] y) <float s = {0.5}> {
            a = DequantizeLinear(q, s)
            b = Relu(a)
            c = Neg(a)
            y = Mul(b, c)
        }"""
    )
    assert testing.check_pass(DuplicateDequantize(), model).changed == 1
    assert (
        testing.to_lines(model)
        == textwrap.dedent(
            """
            a = DequantizeLinear(q, s)
            b = Relu(a)
            a::Neg_c = DequantizeLinear(q, s)
            c = Neg(a::Neg_c)
            y = Mul(b, c)
            """
        ).strip()
    )


def test_a_checker_finds_regions_that_cannot_run() -> None:
    model = parse("g (float[3] x) => (float[3] y) { a = Neg(x) b = Exp(a) y = Add(a, b) }")
    ir.assign_region(model.graph[0], "r")
    ir.assign_region(model.graph[2], "r")
    with pytest.raises(AssertionError, match=r"reads .* before they exist"):
        testing.check_regions(model)
