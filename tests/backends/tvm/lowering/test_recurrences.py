"""RNN, GRU and LSTM run on a kernel of our own, like ONNX Runtime and like the equations."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator

import gcompile
from gcompile import ir
from gcompile.backends.onnxruntime import OnnxRuntime
from gcompile.errors import UnsupportedOperatorsError
from gcompile.testing import example_inputs
from tests.backends.tvm.lowering.compiling import check, parse

GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FUNCTIONS = {"RNN": 1, "GRU": 2, "LSTM": 3}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}
NAMES = ["Relu", "Tanh", "Sigmoid", "Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh",
         "HardSigmoid", "Elu", "Softsign", "Softplus"]  # fmt: skip
WITH_ALPHA = {"Affine", "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu"}
WITH_BETA = {"Affine", "ScaledTanh", "HardSigmoid"}


@dataclass(frozen=True)
class Net:
    """A graph of one recurrent node with random weights."""

    operator: str
    steps: int
    batch: int
    depth: int
    hidden: int
    direction: str = "forward"
    outputs: str = "yh"
    has_bias: bool = True
    has_first: bool = False
    lengths: tuple[int, ...] = ()
    has_peepholes: bool = False
    constant_weights: bool = True
    attributes: dict[str, object] = field(default_factory=dict)

    def model(self) -> ir.Model:
        """The graph, made ready."""
        return ir.prepare(onnx_ir.from_proto(self.proto()))

    def proto(self) -> onnx.ModelProto:
        rng = np.random.default_rng(self.hidden)
        count, gates, h = DIRECTIONS[self.direction], GATES[self.operator], self.hidden
        lines = (self.steps, self.batch, self.depth)
        state = (count, self.batch, h)
        batch_first = bool(self.attributes.get("layout"))
        if batch_first:
            lines, state = (lines[1], lines[0], lines[2]), (state[1], state[0], state[2])
        weights = {
            "w": rng.standard_normal((count, gates * h, self.depth)) / np.sqrt(self.depth),
            "r": rng.standard_normal((count, gates * h, h)) / np.sqrt(h),
            "b": rng.standard_normal((count, 2 * gates * h)),
            "p": rng.standard_normal((count, 3 * h)),
        }
        names = ["x", "w", "r", "b" if self.has_bias else "", "n" if self.lengths else ""]
        is_lstm = self.operator == "LSTM"
        names += ["h0" if self.has_first else ""]
        names += ["c0" if self.has_first and is_lstm else ""] if is_lstm else []
        names += ["p"] if is_lstm and self.has_peepholes else []
        shapes = {"x": lines, "h0": state, "c0": state}
        inputs = [info(name, shapes[name]) for name in ("x", "h0", "c0") if name in names]
        stored = {}
        for name, array in weights.items():
            if name in names and self.constant_weights:
                stored[name] = array.astype(np.float32)
            elif name in names:
                inputs.append(info(name, array.shape))
        if self.lengths:
            stored["n"] = np.array(self.lengths, np.int32)
        every = (self.steps, count, self.batch, h)
        if batch_first:
            every = (self.batch, self.steps, count, h)
        results = {"y": every, "h": state, "c": state}
        node = helper.make_node(
            self.operator,
            names,
            [name if name in self.outputs else "" for name in "yhc"][: 3 if is_lstm else 2],
            hidden_size=h,
            direction=self.direction,
            **self.attributes,
        )
        graph = helper.make_graph(
            [node],
            "g",
            inputs,
            [info(name, results[name]) for name in self.outputs],
            [onnx.numpy_helper.from_array(array, name) for name, array in stored.items()],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])


def info(name: str, shape: tuple[int, ...]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


@st.composite
def nets(draw: st.DrawFn) -> Net:
    operator = draw(st.sampled_from(sorted(GATES)))
    direction = draw(st.sampled_from(sorted(DIRECTIONS)))
    steps, batch = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    functions = draw(
        st.lists(
            st.sampled_from(NAMES),
            min_size=FUNCTIONS[operator],
            max_size=FUNCTIONS[operator],
        )
    )
    attributes: dict[str, object] = {}
    if draw(st.booleans()):
        functions *= DIRECTIONS[direction]
        attributes["activations"] = functions
        for parameter, value, has in (("alpha", 0.5, WITH_ALPHA), ("beta", 0.25, WITH_BETA)):
            if given := [value for name in functions if name in has]:
                attributes[f"activation_{parameter}"] = given
    if draw(st.booleans()):
        attributes["clip"] = 0.75
    if operator == "GRU" and draw(st.booleans()):
        attributes["linear_before_reset"] = 1
    if operator == "LSTM" and draw(st.booleans()):
        attributes["input_forget"] = 1
    lengths = draw(st.lists(st.integers(1, steps), min_size=batch, max_size=batch))
    outputs = draw(st.sampled_from(["y", "h", "yh"] + ["yhc", "c"] * (operator == "LSTM")))
    return Net(
        operator, steps, batch, draw(st.integers(1, 20)), draw(st.integers(1, 40)), direction,
        outputs, draw(st.booleans()), draw(st.booleans()),
        tuple(lengths) if draw(st.booleans()) else (), draw(st.booleans()),
        attributes=attributes,
    )  # fmt: skip


@settings(
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(nets())
def test_nets_of_any_kind_agree_with_the_reference(net: Net) -> None:
    built = check(net.model())
    assert not built.reasons


@pytest.mark.parametrize("operator", sorted(GATES))
def test_sequences_may_come_first(operator: str) -> None:
    net = Net(operator, 5, 3, 7, 6, outputs="yh", has_first=operator != "LSTM",
              attributes={"layout": 1})  # fmt: skip
    model = net.model()
    assert [ir.static_shape(value) for value in model.graph.outputs] == [(3, 5, 1, 6), (3, 1, 6)]
    check(model)
    inputs = example_inputs(model)
    found = OnnxRuntime()(model, inputs)
    wanted = ReferenceEvaluator(net.proto()).run(None, inputs)
    for name, array in zip("yh", wanted, strict=True):
        assert np.allclose(found[name], array, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("operator", sorted(GATES))
def test_weights_may_be_computed(operator: str) -> None:
    check(Net(operator, 3, 2, 5, 20, "bidirectional", constant_weights=False).model())


def test_a_net_stands_between_other_operators_and_threads_share_its_batch() -> None:
    text = """g (float[4,9,6] x) => (float[4,9,20] y)
    <float[1,60,6] w, float[1,60,20] r, float[1,120] b, int64[1] one = {1}> {
        a = Relu(x) h = GRU<hidden_size = 20>(a, w, r, b) s = Squeeze(h, one) y = Tanh(s)
    }"""
    assert not check(parse(text), threads=2).reasons


def test_an_unknown_activation_is_named() -> None:
    model = Net("RNN", 2, 1, 3, 4, attributes={"activations": ["Wiggle"]}).model()
    with pytest.raises(UnsupportedOperatorsError, match="RNN"):
        gcompile.compile(model)
