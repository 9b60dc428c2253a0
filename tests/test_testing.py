"""The contract finds passes that break it."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest

from gcompile import ir, testing
from gcompile.passes import NodePass, Numerics, Pass, PassContext, Skip

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
    g (float[3] x) => (float[3] y) { a = Relu(x) y = Tanh(a) }"""


@dataclass(frozen=True)
class Replace(NodePass):
    name = "replace"
    numerics = Numerics.EXACT
    ops = frozenset({"Relu"})
    by: str = "Abs"

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        node.op_type = self.by
        return None


@dataclass(frozen=True)
class Forgetful(Pass):
    name = "forgetful"
    numerics = Numerics.LOSSY

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        model.graph[0].op_type = "Abs"
        return 0


@dataclass(frozen=True)
class Boastful(Forgetful):
    name = "boastful"

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        return 1


@dataclass(frozen=True)
class Silent(NodePass):
    name = "silent"
    numerics = Numerics.EXACT
    ops = frozenset({"Relu"})

    def rewrite(self, node: ir.Node, ctx: PassContext) -> Skip | None:
        return Skip("")


@dataclass(frozen=True)
class Environmental(Pass):
    name = "environmental"
    numerics = Numerics.EXACT

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        os.environ["GCOMPILE_TEST"] = "1"
        return 0


@dataclass(frozen=True)
class Restless(Pass):
    name = "restless"
    numerics = Numerics.LOSSY

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        node = model.graph[0]
        node.op_type = "Abs" if node.op_type == "Relu" else "Relu"
        return 1


@dataclass(frozen=True)
class Renaming(Pass):
    name = "renaming"
    numerics = Numerics.LOSSY

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        model.graph.outputs[0].name = "z"
        return 1


@pytest.mark.parametrize(
    ("pass_", "complaint"),
    [
        (Replace(), "says EXACT, and output 'y' has other bits"),
        (Forgetful(), "says it made 0 rewrites"),
        (Boastful(), "says it made 1 rewrites"),
        (Silent(), "without a reason"),
        (Environmental(), "changed the environment"),
        (Restless(), "a second run made 1 rewrites"),
        (Renaming(), "changed the inputs or outputs"),
    ],
)
def test_a_broken_contract_is_found(
    pass_: Pass, complaint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GCOMPILE_TEST", raising=False)
    try:
        with pytest.raises(AssertionError, match=complaint):
            testing.check_pass(pass_, ir.parse(TEXT))
    finally:
        os.environ.pop("GCOMPILE_TEST", None)


def test_halved_outputs_do_not_pass_for_rounding() -> None:
    outputs = testing.run(ir.parse(TEXT), testing.example_inputs(ir.parse(TEXT)))
    halves = {name: np.float32(0.5) * array.astype(np.float32) for name, array in outputs.items()}
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        testing.assert_close(outputs, halves, testing.ROUNDING_TOLERANCE)


def test_inputs_are_drawn_from_the_seed() -> None:
    model = ir.parse(TEXT)
    first, again = (testing.example_inputs(model, 7)["x"].tolist() for _ in range(2))
    assert first == again != testing.example_inputs(model, 8)["x"].tolist()
