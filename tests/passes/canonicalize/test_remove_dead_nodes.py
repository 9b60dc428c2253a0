"""Remove what no output depends on."""

from gcompile import ir, testing
from gcompile.passes.canonicalize.remove_dead_nodes import RemoveDeadNodes
from tests.passes.rewriting import check_rewrite, parse


def test_removes_chains() -> None:
    record = check_rewrite(
        RemoveDeadNodes(),
        "g (float[3] x) => (float[3] y) { a = Neg(x) b = Abs(a) y = Relu(x) }",
        "y = Relu(x)",
    )
    assert record.changed == 2


def test_removes_inside_branches_with_their_constants() -> None:
    model = parse(
        """g (bool p, float[3] x) => (float[3] y) {
            r = Relu(x)
            y = If(p) <
                then_branch = a () => (float[3] o) <float[3] c = {1, 2, 3}> {
                    t = Add(r, c)
                    o = Neg(x)
                },
                else_branch = b () => (float[3] o) { o = Neg(x) }
            >
        }"""
    )
    assert testing.check_pass(RemoveDeadNodes(), model).changed == 2
    assert not any(graph.initializers for graph in ir.all_graphs(model))
