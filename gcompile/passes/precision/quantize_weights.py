"""Store the weights of matrix products in four or eight bits, with a scale for each block.

    w[k, n] ≈ q[k, n] · s[k // block, n]

Products are still computed in floats: what is saved is memory, and the time to read it, which is
all the time of products of few rows. The graph stays standard ONNX: DequantizeLinear with
`block_size` before the product. Scales have the least squared
error (see `block_scales`); integers are the nearest ones, or those with which the outputs of a
product move least (see `rounding`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.base import Numerics, Pass, PassContext, Skip
from gcompile.passes.precision.block_scales import best_scales, largest_scales, nearest
from gcompile.passes.precision.ranges import needs_calibration
from gcompile.passes.precision.rounding import Grid, Rounding, collect_grams, reconstruct

_STORED = {4: np.dtype(ml_dtypes.int4), 8: np.dtype(np.int8)}
_BLOCKS = (32, 64, 128)
_WEIGHTS_AT_ONCE = 1 << 19
"""In float64, which is what a cache holds: large matrices take no more memory than small ones."""


class Scales(StrEnum):
    """How the scales of blocks are chosen: of least squared error, or from the largest weight."""

    BEST = "best"
    LARGEST = "largest"


@dataclass(frozen=True)
class QuantizeWeights(Pass):
    """Store constant weights of MatMul and Gemm in few bits, in blocks.

    Attributes:
        bits: Bits per stored weight, 4 or 8.
        block: Consecutive elements of depth that share a scale: 32, 64 or 128.
        rounding: To the nearest step, or to steps with which the outputs of a product move least
            on calibration rows.
        scales: Of least squared error, or those that the largest weight of a block needs, which
            takes a tenth of the time.
    """

    name: ClassVar[str] = "quantize-weights"
    numerics: ClassVar[Numerics] = Numerics.LOSSY
    bits: int = 4
    block: int = 32
    rounding: Rounding = Rounding.NEAREST
    scales: Scales = Scales.BEST

    def __post_init__(self) -> None:
        if self.bits not in _STORED:
            raise UsageError(f"{self.name} stores 4 or 8 bits, not {self.bits}.")
        if self.block not in _BLOCKS:
            raise UsageError(f"{self.name} has blocks of 32, 64 or 128, not {self.block}.")

    def run(self, model: ir.Model, ctx: PassContext) -> int:
        chosen = []
        for node in ir.all_nodes(model):
            if not _multiplies_a_constant(node):
                continue
            if skip := self._refusal(node, model):
                ctx.skipped[self.name, skip.reason] += 1
            else:
                chosen.append(node)
        grams = self._grams(model, chosen, ctx)
        for node in chosen:
            self._rewrite(node, grams.get(str(node.name)))
        return len(chosen)

    def _grams(
        self, model: ir.Model, chosen: list[ir.Node], ctx: PassContext
    ) -> dict[str, NDArray[np.float64]]:
        if self.rounding is Rounding.NEAREST or not chosen:
            return {}
        calibration, run = needs_calibration(self.name, ctx)
        return collect_grams(model, {str(n.name): n for n in chosen}, calibration, run, ctx.seed)

    def _refusal(self, node: ir.Node, model: ir.Model) -> Skip | None:
        weight = node.inputs[1]
        if weight is None or weight.dtype is not ir.DataType.FLOAT:
            return Skip("its weight is not fp32")
        if len(ir.static_shape(weight)) != 2:
            return Skip("its weight is not a matrix")
        if node.attributes.get_int("transA", 0):
            return Skip("its first operand is transposed")
        array = ir.constant_array(weight)
        if array is None or not np.isfinite(array).all():
            return Skip("its weight has numbers that are not finite")
        if self.rounding is not Rounding.NEAREST:
            if node.graph is not model.graph:
                return Skip("it is in a branch, where its inputs cannot be observed")
            if ir.is_constant(node.inputs[0]):
                return Skip("both operands are constant")
        return None

    def _rewrite(self, node: ir.Node, gram: NDArray[np.float64] | None) -> None:
        """Put a DequantizeLinear between the product and its weight."""
        weight, graph = node.inputs[1], node.graph
        array = ir.constant_array(weight)
        assert weight is not None
        assert array is not None
        assert graph is not None
        axis = 1 if node.attributes.get_int("transB", 0) else 0
        stored, scales = self.quantize(np.moveaxis(array, axis, 1), gram)
        name = str(weight.name)
        inputs = [
            ir.add_constant(graph, f"{name}_stored", _moved(stored, axis)),
            ir.add_constant(graph, f"{name}_scale", _moved(scales, axis)),
        ]
        node.replace_input_with(1, self._decode(inputs, weight, axis, node))
        if not weight.uses():
            graph.initializers.pop(name)

    def quantize(
        self, rows: NDArray[np.generic], gram: NDArray[np.float64] | None = None
    ) -> tuple[NDArray[np.generic], NDArray[np.float32]]:
        """Integers of (channels, depth), and scales of (channels, blocks).

        `gram`, (1, depth, depth), holds the second moments of what the rows are multiplied with.
        """
        channels, depth = rows.shape
        at_once = max(1, _WEIGHTS_AT_ONCE // depth)
        parts = [
            self._nearest(rows[start : start + at_once].astype(np.float64))
            for start in range(0, channels, at_once)
        ]
        numbers, scales = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        if gram is not None:
            steps = np.repeat(scales, self.block, axis=1)[:, :depth]
            limit = 1 << (self.bits - 1)
            exact = rows.astype(np.float64)[None]
            (numbers,) = reconstruct(exact, gram, Grid(steps[None], -limit, limit - 1))
        return numbers.astype(_STORED[self.bits]), scales.astype(np.float32)

    def _nearest(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
        """The nearest integers of rows, and the scales of their blocks."""
        channels, depth = rows.shape
        padded = np.pad(rows, ((0, 0), (0, -depth % self.block)))
        blocks = padded.reshape(-1, self.block)
        find = best_scales if self.scales is Scales.BEST else largest_scales
        scales = find(blocks, self.bits)
        numbers = nearest(blocks, scales, self.bits).reshape(channels, -1)[:, :depth]
        return numbers, scales.reshape(channels, -1)

    def _decode(
        self, inputs: list[ir.Value], weight: ir.Value, axis: int, reader: ir.Node
    ) -> ir.Value:
        options = {"axis": axis, "block_size": self.block}
        attributes = [ir.Attr(key, ir.AttributeType.INT, n) for key, n in options.items()]
        name = f"{weight.name}::{reader.name}"
        decode = ir.Node("", "DequantizeLinear", inputs, attributes, name=f"{name}/decode")
        (decoded,) = decode.outputs
        decoded.name, decoded.shape, decoded.type = name, weight.shape, weight.type
        reader.prepend(decode)
        ir.add_origin(decode, [reader], self.name)
        return decoded


def _multiplies_a_constant(node: ir.Node) -> bool:
    """Say whether it is a product whose weight is not stored in few bits already."""
    is_product = not node.domain and node.op_type in ("MatMul", "Gemm")
    return is_product and ir.is_constant(node.inputs[1])


def _moved(rows: NDArray[np.generic], axis: int) -> NDArray[np.generic]:
    return np.ascontiguousarray(np.moveaxis(rows, 1, axis))
