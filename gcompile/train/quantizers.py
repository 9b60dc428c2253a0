"""QuantizeLinear and DequantizeLinear that gradients pass through.

Rounding has a gradient of one inside the range and none outside of it: the straight-through
estimator of Bengio, Léonard & Courville, "Estimating or Propagating Gradients Through Stochastic
Neurons", 2013. Relaxed, a number is rounded up with a probability that is its distance from the
integer below, so that its expectation has a gradient: the noise model of Louizos et al., "Relaxed
Quantization for Discretized Neural Networks", ICLR 2019, with uniform noise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gcompile import ir

_RANGES = {
    ir.DataType.INT8: (-128, 127),
    ir.DataType.UINT8: (0, 255),
    ir.DataType.INT4: (-8, 7),
    ir.DataType.UINT4: (0, 15),
    ir.DataType.INT16: (-32768, 32767),
    ir.DataType.UINT16: (0, 65535),
    ir.DataType.INT32: (-(2**31), 2**31 - 1),
}


@dataclass(frozen=True)
class Grid:
    """The numbers that a Q/DQ pair can represent.

    Attributes:
        scale: One step; a scalar, one per slice of `axis`, or one per block of it.
        zero: The integer that stands for zero, of the shape of `scale`.
        low: The least integer.
        high: The greatest.
        axis: The axis that `scale` runs along.
        block: Elements of `axis` that share a scale; 0 where each slice has its own.
    """

    scale: Tensor
    zero: Tensor
    low: int
    high: int
    axis: int
    block: int = 0

    @classmethod
    def of(cls, node: ir.Node) -> Grid:
        """The grid of a QuantizeLinear or DequantizeLinear with a constant scale.

        Raises:
            ValueError: The scale or the zero point is computed, or the type has no range.
        """
        quantized = node.outputs[0] if node.op_type == "QuantizeLinear" else node.inputs[0]
        if quantized is None or quantized.dtype not in _RANGES:
            raise ValueError(f"{node.op_type} {node.name!r} has a type that cannot be trained")
        scale = ir.constant_array(node.inputs[1])
        if scale is None:
            raise ValueError(f"the scale of {node.name!r} is computed")
        given = node.inputs[2] if len(node.inputs) > 2 else None
        zero = np.zeros(scale.shape) if given is None else ir.constant_array(given)
        if zero is None:
            raise ValueError(f"the zero point of {node.name!r} is computed")
        low, high = _RANGES[quantized.dtype]
        axis = node.attributes.get_int("axis", 1)
        return cls(
            torch.from_numpy(np.array(scale, np.float32)),
            torch.from_numpy(np.array(zero, np.float32)),
            low,
            high,
            axis,
            node.attributes.get_int("block_size", 0),
        )

    def quantize(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """Integers as floats, with a gradient. Noise relaxes the rounding."""
        real = x / self._along(self.scale, x)
        offset = 0.0
        if noise is not None:
            offset = torch.rand(real.shape, generator=noise, dtype=real.dtype) - 0.5
        rounded = real + (torch.round(real + offset) - real).detach()
        return torch.clamp(rounded + self._along(self.zero, x), self.low, self.high)

    def dequantize(self, q: Tensor) -> Tensor:
        """The real numbers of integers."""
        return (q - self._along(self.zero, q)) * self._along(self.scale, q)

    def integers(self, x: Tensor) -> NDArray[np.int64]:
        """The integers nearest to real numbers."""
        exact = np.rint(self.quantize(x.detach()).numpy())
        return np.asarray(exact, np.int64)

    def _along(self, values: Tensor, x: Tensor) -> Tensor:
        if values.dim() == 0 or values.numel() == 1:
            return values.reshape(())
        if self.block:
            repeated = values.repeat_interleave(self.block, self.axis)
            return repeated.narrow(self.axis, 0, x.shape[self.axis])
        axis = self.axis % x.dim()
        return values.reshape([-1 if i == axis else 1 for i in range(x.dim())])
