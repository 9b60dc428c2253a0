"""Steps of recurrent nets against float64, with every vector width and states none divides."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gcompile.backends.tvm.kernels import recurrence
from gcompile.backends.tvm.kernels.cells import Activation
from gcompile.backends.tvm.kernels.recurrent_net import Direction, RecurrenceKernel
from gcompile.backends.tvm.kernels.spec import Accumulator, Image, Output
from tests.backends.tvm.kernels.compiling import Array, run

SIGMOID, TANH = Activation("sigmoid"), Activation("tanh")


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    operator=st.sampled_from(["RNN", "GRU", "LSTM"]),
    inside=st.booleans(),
    steps=st.integers(1, 5),
    batch=st.integers(1, 14),
    hidden=st.one_of(st.integers(1, 9), st.integers(10, 70)),
    ways=st.sampled_from([(False,), (True,), (False, True)]),
    bits=st.sampled_from([128, 256, 512]),
    threads=st.integers(1, 3),
)
def test_states_of_any_size_agree_with_float64(
    operator: str,
    inside: bool,
    steps: int,
    batch: int,
    hidden: int,
    ways: tuple[bool, ...],
    bits: int,
    threads: int,
) -> None:
    kernel = RecurrenceKernel(
        output=Output(Image(1, 1, 1, 1)),
        expression=Accumulator(),
        vector_bits=bits,
        threads=threads,
        operator=operator,
        steps=steps,
        batch=batch,
        hidden=hidden,
        directions=tuple(Direction(way, (SIGMOID, TANH, TANH)) for way in ways),
        resets_inside=inside and operator == "GRU",
        results=("y", "h"),
    )
    count = sum(kernel.result_sizes)
    kernel = replace(kernel, output=Output(Image(1, 1, 1, count, declared=(count,))))
    rng = np.random.default_rng(hidden)
    gates = kernel.cell.gates
    projected = rng.standard_normal((steps, batch, len(ways), gates, kernel.padded))
    weights = rng.standard_normal((len(ways), gates, hidden, hidden)) / np.sqrt(hidden)
    constant = rng.standard_normal((len(ways), kernel.padded))
    inputs = [projected.reshape(1, 1, steps * batch, -1), packed(kernel, weights)]
    inputs += [constant] if kernel.resets_inside else []
    stored = run(
        recurrence.emit(kernel, "steps"), [a.astype(np.float32) for a in inputs], kernel.output
    )
    wanted = [
        states(kernel, projected[:, :, d, :, :hidden], weights[d], constant[d, :hidden], way)
        for d, way in enumerate(ways)
    ]
    y = np.stack(wanted, axis=1)
    h = np.stack([w[0 if way else -1] for w, way in zip(wanted, ways, strict=True)])
    expected = np.concatenate([y.reshape(-1), h.reshape(-1)])
    np.testing.assert_allclose(stored.reshape(-1), expected, rtol=1e-5, atol=1e-5)


def packed(kernel: RecurrenceKernel, weights: Array) -> Array:
    """Weights (directions, gates, hidden, depth) in the order in which the kernel reads them."""
    lanes, hidden = kernel.lanes.count, kernel.hidden
    padded = np.pad(weights, [(0, 0), (0, 0), (0, kernel.padded - hidden), (0, 0)])
    lines = []
    for direction in padded:
        for phase in kernel.cell.phases:
            own = direction[phase.first_gate : phase.first_gate + phase.gates]
            own = own.reshape(phase.gates, kernel.vectors, lanes, hidden)
            lines.append(own.transpose(1, 3, 0, 2).reshape(-1))
    return np.concatenate(lines)


def states(
    kernel: RecurrenceKernel, projected: Array, weights: Array, constant: Array, is_reverse: bool
) -> Array:
    """All states of one net by ONNX's equations."""
    h = np.zeros((kernel.batch, kernel.hidden))
    c, found = h, np.zeros((kernel.steps, *h.shape))
    times = range(kernel.steps)[:: -1 if is_reverse else 1]
    for time in times:
        x, s = projected[time].transpose(1, 0, 2), np.einsum("bk,gjk->gbj", h, weights)
        if kernel.operator == "RNN":
            h = sigmoid(x[0] + s[0])
        elif kernel.operator == "GRU":
            z, r = sigmoid(x[0] + s[0]), sigmoid(x[1] + s[1])
            inner = r * (s[2] + constant) if kernel.resets_inside else (r * h) @ weights[2].T
            h = (1 - z) * np.tanh(x[2] + inner) + z * h
        else:
            i, o, f = (sigmoid(x[gate] + s[gate]) for gate in range(3))
            c = f * c + i * np.tanh(x[3] + s[3])
            h = o * np.tanh(c)
        found[time] = h
    return found


def sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result
