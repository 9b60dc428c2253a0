"""The model in the terms of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gcompile import ir, testing
from gcompile.errors import UsageError
from gcompile.ir import interop
from gcompile.passes import exact_pipeline
from gcompile.passes.graphsurgeon import GraphsurgeonPass

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[2,3] x) => (float[2,3] y) <float[3,3] w = {1, 2, 3, 4, 5, 6, 7, 8, 9}> {
        m = MatMul(x, w)
        r = Relu(m)
        s = Softmax(r)
        y = Add(s, r)
    }"""


def model() -> ir.Model:
    ready = ir.parse(TEXT)
    exact_pipeline().apply(ready, testing.example_context())
    return ready


def test_networkx_sees_regions() -> None:
    graph = ir.to_networkx(model())
    assert dict(graph.nodes(data="op")) == {
        "MatMul_m": "MatMul+Relu",
        "Softmax_s": "Softmax+Add",
    }
    assert list(graph.edges) == [("MatMul_m", "Softmax_s")]
    assert graph.edges["MatMul_m", "Softmax_s"]["values"] == ("r",)


def test_networkx_sees_nodes() -> None:
    graph = ir.to_networkx(model(), by="node")
    assert list(graph) == ["MatMul_m", "Relu_r", "Softmax_s", "Add_y"]
    assert graph.edges["MatMul_m", "Relu_r"]["values"] == ("m",)


def test_graphsurgeon_and_back_keeps_regions_by_name() -> None:
    before = model()
    after = ir.from_graphsurgeon(ir.to_graphsurgeon(before), like=before)
    assert [r.name for r in ir.regions(after.graph)] == [r.name for r in ir.regions(before.graph)]
    assert testing.to_lines(after) == testing.to_lines(before)


def test_a_graphsurgeon_function_runs_as_a_pass() -> None:
    def replace_softmax(graph: Any) -> None:
        for node in graph.nodes:
            if node.op == "Softmax":
                node.op = "Tanh"

    edited = model()
    record = testing.check_pass(GraphsurgeonPass(replace_softmax), edited)
    assert record.changed == 1
    assert [region.op for region in ir.regions(edited.graph)] == ["MatMul+Relu", "Tanh+Add"]


def test_a_graphsurgeon_function_may_change_constants() -> None:
    def halve(graph: Any) -> None:
        for tensor in graph.tensors().values():
            if getattr(tensor, "values", None) is not None and tensor.values.max() > 5:
                tensor.values = tensor.values * 0.5

    assert GraphsurgeonPass(halve).apply(model(), testing.example_context()).changed == 1


@pytest.mark.parametrize("convert", [ir.to_networkx, ir.to_graphsurgeon])
def test_a_missing_library_is_a_sentence(
    convert: Callable[[ir.Model], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(interop, "import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'gcompile\[interop\]'"):
        convert(model())
