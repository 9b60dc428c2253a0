"""Panels of weights of few bits, decoded into the cache in the order that a unit reads."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.few_bits import EIGHT, Reader
from gcompile.backends.tvm.kernels.function import scratch
from gcompile.backends.tvm.kernels.lanes import Lanes
from gcompile.backends.tvm.kernels.parts import Part
from gcompile.backends.tvm.kernels.units import Unit


@dataclass(frozen=True, slots=True)
class DecodedWeights:
    """One panel of weights: decoded once, it serves all pixels of a panel.

    Attributes:
        depth: Elements of depth of a panel, a multiple of eight.
        packed: The panel as constant weights of the unit lie.
    """

    reader: Reader
    depth: int
    packed: Buffer

    @classmethod
    def of(cls, reader: Reader, unit: Unit, vectors: int, depth: int) -> DecodedWeights:
        """Take memory for so many vectors of channels and elements of depth."""
        shape = (vectors, depth // unit.group, unit.lanes * unit.group)
        memory = scratch(vectors * depth * unit.lanes, unit.weight_dtype)
        packed = T.decl_buffer(shape, memory.dtype, data=memory.data, layout=None)
        return cls(reader, depth, packed)

    def panel(self, part: Part, first: Expr, stop: Expr, index: Expr) -> Part:
        """Decode panel `index` of depth of a range of vectors, and let the part read it there."""
        eights, at_once = -(-part.depth.run // EIGHT), self.depth // EIGHT
        last = T.Bind(T.min(stop, -(-part.channels // self.reader.lanes.count)))
        count = T.Bind(T.min(at_once, eights - index * at_once))
        with T.serial(last - first) as vector, T.serial(count) as offset:
            self._decode(vector, first, index * at_once + offset, offset)
        return replace(part, weights=self.packed, first_block=-first)

    def _decode(self, vector: Expr, first: Expr, eight: Expr, offset: Expr) -> None:
        """Decode eight elements of depth of one vector of channels."""
        lanes, reader = self.reader.lanes, self.reader
        eight = T.Bind(eight)
        block = T.Bind(eight * EIGHT // reader.stored.block)
        numbers = reader.eight(first + vector, eight)
        if reader.stored.has_zero_points:
            zero = T.Bind(reader.zero_point(first + vector, block))
            numbers = [number - zero for number in numbers]
        scale = T.Bind(reader.scale(first + vector, block))
        reals = [T.Bind(number * scale) for number in numbers]
        group = int(self.packed.shape[2]) // lanes.count
        step = T.Bind(offset * (EIGHT // group))
        if group == 1:
            for index, real in enumerate(reals):
                stored = lanes.cast(str(self.packed.dtype), real)
                T.buffer_store(self.packed, stored, [vector, step + index, lanes.index(0)])
            return
        pairs = Lanes(2 * lanes.count)
        for index in range(EIGHT // 2):
            stored = _bfloat16_pairs(reals[2 * index], reals[2 * index + 1], lanes)
            bits = pairs.reinterpret("uint16", stored)
            T.buffer_store(self.packed, bits, [vector, step + index, pairs.index(0)])


def whole_eights(steps: int, at_once: int, group: int) -> int:
    """Elements of depth of about so many steps: whole turns of the loop, and whole eights."""
    whole = math.lcm(EIGHT, at_once * group)
    return -(-steps * group // whole) * whole


def _bfloat16_pairs(low: Expr, high: Expr, lanes: Lanes) -> Expr:
    """Finite numbers rounded to nearest even, two in the 32 bits of a lane."""
    halves = [_rounded(real, lanes) for real in (low, high)]
    upper = halves[1] & lanes.splat(0xFFFF0000, "uint32")
    return (halves[0] >> lanes.splat(16, "uint32")) | upper


def _rounded(real: Expr, lanes: Lanes) -> Expr:
    bits = T.Bind(lanes.reinterpret("uint32", real))
    odd = (bits >> lanes.splat(16, "uint32")) & lanes.splat(1, "uint32")
    return T.Bind(bits + odd + lanes.splat(0x7FFF, "uint32"))
