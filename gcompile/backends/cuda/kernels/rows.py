"""Softmax and normalizations of rows in one launch: a warp holds a row in registers.

    softmax       y = exp(x - max x) / sum exp(x - max x)
    log-softmax   y = x - max x - log(sum exp(x - max x))
    layer-norm    y = (x - mean x) / sqrt(mean (x - mean x)² + epsilon)
    rms-norm      y = x / sqrt(mean x² + epsilon)

x is an expression over what is read, and what is stored an expression over y. Every lane holds
runs of neighbouring elements; the lanes add up by exchanges, always in the same order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from gcompile.backends.cuda.kernels.epilogue import Epilogue, Place
from gcompile.backends.cuda.program.program import (
    BLOCK_X,
    LANE,
    WARP,
    Exchange,
    For,
    If,
    Let,
    Program,
    Registers,
    Set,
    Statement,
)
from gcompile.backends.cuda.program.scalar import (
    Scalar,
    apply,
    less,
    register,
    variable,
)

Kind = Literal["softmax", "log-softmax", "layer-norm", "rms-norm"]

MOST_ELEMENTS = 2048
"""Of a row: 64 registers of each lane."""

_LANES = 32
_WIDEST = 8


@dataclass(frozen=True)
class Rows:
    """One operator on all rows of a tensor.

    The program's arguments are the vectors and the sources of the epilogue, then `y`.

    Attributes:
        name: Of the program.
        operand: The epilogue's sources as what is read: its expression gives x.
        epilogue: What follows y.
        epsilon: Added to a mean square.
        warps: Of a block; each has one row.

    Raises:
        ValueError: A row does not fit the registers of a warp.
    """

    name: str
    kind: Kind
    operand: Epilogue
    epilogue: Epilogue
    epsilon: float = 0.0
    warps: int = 4

    def __post_init__(self) -> None:
        if self.channels > MOST_ELEMENTS:
            raise ValueError(f"Rows of {self.channels} elements do not fit a warp's registers.")

    @property
    def channels(self) -> int:
        """Elements of a row."""
        return self.epilogue.output.image.channels

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.epilogue.output.image.size // self.channels

    @property
    def width(self) -> int:
        """Neighbouring elements of a lane; fewer where a row would not fill the warp."""
        width = math.gcd(self.channels, _WIDEST)
        while width > 1 and self.channels < _LANES * width:
            width //= 2
        return width

    def program(self) -> Program:
        """Write it."""
        runs = math.ceil(self.channels / (_LANES * self.width))
        row, count = BLOCK_X * self.warps + WARP, runs * self.width
        body = (
            Registers("value", "float32", count, zero=True),
            self._each(runs, self._read()),
            *self._normalized(runs),
        )
        is_ragged = self.rows % self.warps != 0
        store = self._each(runs, self._write())
        if is_ragged:
            store = If(less(row, self.rows), (store,))
        return Program(
            self.name,
            (*self.epilogue.read, self.epilogue.written),
            (math.ceil(self.rows / self.warps), 1, 1),
            _LANES * self.warps,
            0,
            # Warps past the end read the last row: exchanges need whole warps.
            (Let("row", apply("min", row, self.rows - 1) if is_ragged else row), *body, store),
        )

    def _each(self, runs: int, body: list[Statement]) -> Statement:
        """For every run of a lane's elements, where it exists."""
        channel = (variable("run") * _LANES + LANE) * self.width
        whole = self.channels % (_LANES * self.width) == 0
        inside = body if whole else [If(less(variable("channel"), self.channels), tuple(body))]
        return For("run", runs, (Let("channel", channel), *inside), unrolled=True)

    def _value(self, i: Scalar | int) -> Scalar:
        return register("value", variable("run") * self.width + i, "float32")

    def _read(self) -> list[Statement]:
        place = Place(variable("row"), variable("channel"))
        targets = [register("x", i, "float32") for i in range(self.width)]
        return [
            Registers("x", "float32", self.width),
            *self.operand.values(place, targets),
            *(Set(self._value(i), target) for i, target in enumerate(targets)),
        ]

    def _write(self) -> list[Statement]:
        place = Place(variable("row"), variable("channel"))
        sums = [register("x", i, "float32") for i in range(self.width)]
        return [
            Registers("x", "float32", self.width),
            *(Set(target, self._value(i)) for i, target in enumerate(sums)),
            *self.epilogue.statements(place, sums),
        ]

    def _normalized(self, runs: int) -> list[Statement]:
        if self.kind in ("softmax", "log-softmax"):
            return self._softmax(runs)
        result: list[Statement] = []
        if self.kind == "layer-norm":
            total = self._sum(runs, "mean", self._value(variable("i")))
            mean = apply("fmul", register("mean", 0, "float32"), 1.0 / self.channels)
            centered = apply("fsub", self._value(variable("i")), variable("center", "float32"))
            result += [*total, Let("center", mean), self._every(runs, centered)]
        square = apply("fmul", self._value(variable("i")), self._value(variable("i")))
        mean_square = apply("fmul", register("square", 0, "float32"), 1.0 / self.channels)
        root = apply("sqrt", apply("fadd", mean_square, self.epsilon))
        scaled = apply("fmul", self._value(variable("i")), variable("factor", "float32"))
        return [
            *result,
            *self._sum(runs, "square", square),
            Let("factor", apply("fdiv", _one(), root)),
            self._every(runs, scaled),
        ]

    def _softmax(self, runs: int) -> list[Statement]:
        value, base = self._value(variable("i")), variable("base", "float32")
        largest = register("largest", 0, "float32")
        shifted = apply("fsub", value, base)
        result: list[Statement] = [
            Registers("largest", "float32", 1),
            Set(largest, Scalar("constant", "float32", (), -math.inf)),
            self._loop(runs, [Set(largest, apply("fmax", largest, value))]),
            *_across("fmax", largest),
            Let("base", largest),
        ]
        if self.kind == "log-softmax":
            total = self._sum(runs, "total", apply("exp", shifted))
            log = apply("log", register("total", 0, "float32"))
            rest = apply("fsub", shifted, variable("log", "float32"))
            return [*result, *total, Let("log", log), self._every(runs, rest)]
        total = self._sum(runs, "total", value)
        scaled = apply("fmul", value, variable("factor", "float32"))
        factor = apply("fdiv", _one(), register("total", 0, "float32"))
        powers = self._every(runs, apply("exp", shifted))
        return [*result, powers, *total, Let("factor", factor), self._every(runs, scaled)]

    def _every(self, runs: int, value: Scalar) -> Statement:
        """Let all of a lane's elements become an expression over themselves."""
        return self._loop(runs, [Set(self._value(variable("i")), value)])

    def _loop(self, runs: int, body: list[Statement]) -> Statement:
        inner = For("i", self.width, tuple(body), unrolled=True)
        return self._each(runs, [inner])

    def _sum(self, runs: int, name: str, term: Scalar) -> list[Statement]:
        """Add a term over the whole row; every lane has the sum."""
        total = register(name, 0, "float32")
        return [
            Registers(name, "float32", 1, zero=True),
            self._loop(runs, [Set(total, apply("fadd", total, term))]),
            *_across("fadd", total),
        ]


def _across(operation: str, value: Scalar) -> list[Statement]:
    """Combine what all lanes of a warp hold."""
    name = f"{value.value}_of_another"
    other = register(name, 0, "float32")
    result: list[Statement] = [Registers(name, "float32", 1)]
    for distance in (1, 2, 4, 8, 16):
        result += [Exchange(other, value, distance), Set(value, apply(operation, value, other))]
    return result


def _one() -> Scalar:
    return Scalar("constant", "float32", (), 1.0)
