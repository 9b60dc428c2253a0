"""One step of Adagrad, Adam or Momentum, by the formulas of ai.onnx.preview.training.

The inputs are the rate R, the count of steps T, and for each state its tensors one after another:
all X, all gradients G, then what the optimizer remembers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_ir

from gcompile.ir.written_out.writer import Writer

Value = onnx_ir.Value
Results = Sequence[Value | None] | None


class _Step:
    """Arithmetic in the type of the tensors."""

    def __init__(self, writer: Writer) -> None:
        self.writer, self.dtype = writer, writer.dtype(2)
        self.rate = writer.cast(writer.input(0), self.dtype)
        self.count = writer.cast(writer.input(1), self.dtype)

    def number(self, value: float) -> Value:
        return self.writer.number(value, self.dtype)

    def of(self, name: str, default: float) -> Value:
        return self.number(self.writer.real(name, default))

    def op(self, operator: str, *inputs: Value) -> Value:
        return self.writer.op(operator, *inputs)

    def mixed(self, weight: float, old: Value, other: float, new: Value) -> Value:
        """Weight · old + other · new."""
        parts = [self.op("Mul", self.number(w), v) for w, v in ((weight, old), (other, new))]
        return self.op("Add", *parts)

    def gradient(self, x: Value, gradient: Value) -> Value:
        """The gradient with that of the squared norm of the parameters."""
        return self.mixed(self.writer.real("norm_coefficient", 0.0), x, 1.0, gradient)

    def if_begun(self, after: Value, before: Value) -> Value:
        """One value once steps have been counted, another before."""
        return self.op("Where", self.op("Greater", self.count, self.number(0)), after, before)


def adagrad(writer: Writer) -> Results:
    """H += G², X -= R / (1 + T · decay) · G / (√H + ε)."""
    step = _Step(writer)
    decay = step.op("Mul", step.count, step.of("decay_factor", 0.0))
    rate = step.op("Div", step.rate, step.op("Add", step.number(1), decay))

    def update(x: Value, gradient: Value, squares: Value) -> list[Value]:
        regular = step.gradient(x, gradient)
        summed = step.op("Add", squares, step.op("Mul", regular, regular))
        root = step.op("Add", step.op("Sqrt", summed), step.of("epsilon", 1e-6))
        return [step.op("Sub", x, step.op("Div", step.op("Mul", rate, regular), root)), summed]

    return _all(writer, 3, update)


def adam(writer: Writer) -> Results:
    """V = αV + (1-α)G, H = βH + (1-β)G², X -= R · √(1-β^T) / (1-α^T) · V / (√H + ε)."""
    step = _Step(writer)
    alpha, beta = writer.real("alpha", 0.9), writer.real("beta", 0.999)
    left = [
        step.op("Sub", step.number(1), step.op("Pow", step.number(n), step.count))
        for n in (alpha, beta)
    ]
    corrected = step.op("Div", step.op("Mul", step.rate, step.op("Sqrt", left[1])), left[0])
    rate = step.if_begun(corrected, step.rate)

    def update(x: Value, gradient: Value, mean: Value, squares: Value) -> list[Value]:
        regular = step.gradient(x, gradient)
        new_mean = step.mixed(alpha, mean, 1 - alpha, regular)
        new_squares = step.mixed(beta, squares, 1 - beta, step.op("Mul", regular, regular))
        root = step.op("Add", step.op("Sqrt", new_squares), step.of("epsilon", 1e-6))
        moved = step.op("Sub", x, step.op("Div", step.op("Mul", rate, new_mean), root))
        shrunk = step.number(1 - writer.real("norm_coefficient_post", 0.0))
        return [step.op("Mul", shrunk, moved), new_mean, new_squares]

    return _all(writer, 4, update)


def momentum(writer: Writer) -> Results:
    """V = αV + βG, where β is one in the first step; X -= R · V, or R · (G + αV) with Nesterov."""
    step = _Step(writer)
    alpha = step.of("alpha", 0.0)
    weight = step.if_begun(step.of("beta", 0.0), step.number(1))

    def update(x: Value, gradient: Value, velocity: Value) -> list[Value]:
        regular = step.gradient(x, gradient)
        moved = step.op("Add", step.op("Mul", alpha, velocity), step.op("Mul", weight, regular))
        way = moved
        if writer.text("mode", "standard") == "nesterov":
            way = step.op("Add", regular, step.op("Mul", alpha, moved))
        return [step.op("Sub", x, step.op("Mul", step.rate, way)), moved]

    return _all(writer, 3, update)


def _all(writer: Writer, states: int, update: Callable[..., list[Value]]) -> list[Value]:
    """Update every tensor; results are grouped as the inputs are, without the gradients."""
    count = (len(writer.node.inputs) - 2) // states
    groups = [[writer.input(2 + s * count + i) for s in range(states)] for i in range(count)]
    updated = [update(*group) for group in groups]
    return [result for column in zip(*updated, strict=True) for result in column]


RULES = {"Adagrad": adagrad, "Adam": adam, "Momentum": momentum}
