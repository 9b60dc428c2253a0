"""Operands that are broadcast along any axes, as images of four."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from gcompile.backends.tvm.kernels.spec import Image
from gcompile.backends.tvm.lowering.placement import Placement
from gcompile.backends.tvm.lowering.region_expression import CannotEmitError

_RANK = 4


@dataclass(frozen=True)
class Grid:
    """How the axes of an output become the four of an image.

    Attributes:
        groups: Neighbouring axes, outermost first, that are one axis of the image.
    """

    shape: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, shape: tuple[int, ...], operands: Sequence[tuple[int, ...]]) -> Grid:
        """Join the axes along which the same operands are broadcast.

        Raises:
            CannotEmitError: More than four groups are left.
        """
        aligned = [_aligned(operand, len(shape)) for operand in operands]
        kinds = [tuple(operand[axis] == 1 for operand in aligned) for axis in range(len(shape))]
        long = [axis for axis, size in enumerate(shape) if size > 1]
        groups = [tuple(run) for _, run in itertools.groupby(long, key=lambda axis: kinds[axis])]
        if len(groups) > _RANK:
            raise CannotEmitError("operands are broadcast along more axes than an image has")
        return cls(shape, tuple(groups))

    def image(self, dtype: str) -> Image:
        """The output."""
        return self._image(self.shape, dtype, self.shape)

    def operand(self, placement: Placement, shape: tuple[int, ...]) -> Placement:
        """An operand of some shape, wherever it lies in its logical order."""
        aligned = _aligned(shape, len(self.shape))
        image = self._image(aligned, placement.image.dtype, placement.shape)
        return replace(placement, image=image)

    def _image(self, shape: tuple[int, ...], dtype: str, declared: tuple[int, ...]) -> Image:
        sizes = [math.prod(shape[axis] for axis in group) for group in self.groups]
        batch, height, width, channels = [1] * (_RANK - len(sizes)) + sizes
        return Image(batch, height, width, channels, dtype, declared=declared)


def _aligned(shape: tuple[int, ...], rank: int) -> tuple[int, ...]:
    return (1,) * (rank - len(shape)) + shape
