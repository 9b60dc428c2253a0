from __future__ import annotations

import pytest

from gcompile import ir
from gcompile.ir.place import Place

TEXT = """
<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 4] x) => (float[1, 4] y) {
    h = Relu (x)
    y = Neg (h)
}
"""
STACK = """File "/home/me/net.py", line 12, in forward
    return self.block(x)
  File "/home/me/net.py", line 6, in forward
    return torch.relu(x)
  File "/venv/lib/python3.11/site-packages/torch/nn/functional.py", line 99, in relu
    return torch.relu(x)"""


def exported(opset_text: str = TEXT) -> ir.Model:
    """A model whose first node carries what PyTorch's exporter writes."""
    import onnx_ir

    model = onnx_ir.from_onnx_text(opset_text)
    node = next(iter(model.graph))
    node.name = "relu"
    node.metadata_props["pkg.torch.onnx.name_scopes"] = "['', 'block', 'block.act', 'relu']"
    node.metadata_props["pkg.torch.onnx.stack_trace"] = STACK
    return model


def test_a_node_comes_from_the_innermost_line_outside_pytorch() -> None:
    first, second = exported().graph
    assert ir.place_of([first]) == Place("block.act", "/home/me/net.py:6")
    assert ir.place_of([second]) is None
    assert ir.place_of([second, first]) == ir.place_of([first])


def test_places_survive_the_conversion_of_an_older_opset() -> None:
    nodes = list(ir.prepare(exported()).graph)
    assert [ir.place_of([node]) for node in nodes] == [
        Place("block.act", "/home/me/net.py:6"),
        None,
    ]


def test_what_a_pass_inserts_takes_the_place_of_what_it_stands_for() -> None:
    first, second = exported().graph
    ir.add_origin(second, [first], "some-pass")
    assert ir.place_of([second]) == ir.place_of([first])


LIB = "/v/lib/site-packages"


@pytest.mark.parametrize(
    ("stack", "source"),
    [
        (f'File "{LIB}/some/bert.py", line 3, in f', "some/bert.py:3"),
        (f'File "{LIB}/torch/nn/conv.py", line 5, in f', "torch/nn/conv.py:5"),
        ("nothing to see", None),
        ("", None),
    ],
)
def test_sources_of_libraries_are_shown_without_where_they_are_installed(
    stack: str, source: str | None
) -> None:
    assert Place.of("m", stack).source == source


def test_a_place_reads_as_a_part_of_a_sentence() -> None:
    assert str(Place("a.b", "net.py:3")) == "`a.b` (net.py:3)"
    assert str(Place("")) == "the outermost module"
