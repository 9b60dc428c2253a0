"""Where a batch of matrices lies in the memory of a tensor."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.tirx import Buffer, Expr
from tvm.tirx.script import builder as T

from gcompile.backends.tvm.kernels.lanes import Lanes
from gcompile.backends.tvm.kernels.spec import Image


@dataclass(frozen=True, slots=True)
class Matrix:
    """A matrix in a line of memory.

    Attributes:
        start: Index of its first element.
        pitch: Elements from one row to the next.
    """

    buffer: Buffer
    start: Expr
    pitch: int
    rows: int
    columns: int

    def vector(self, row: Expr, column: Expr, lanes: Lanes) -> Expr:
        """Some consecutive elements of a row."""
        return self.buffer[lanes.index(self.start + row * self.pitch + column)]


@dataclass(frozen=True, slots=True)
class Matrices:
    """(batch, heads) matrices in the memory of one tensor. The columns of a row are contiguous.

    Attributes:
        image: The tensor.
        strides: Elements from one batch, head and row to the next; 0 where all share what is
            there.
        offset: Elements before the first matrix.
    """

    image: Image
    rows: int
    columns: int
    batch: int = 1
    heads: int = 1
    strides: tuple[int, int, int] = (0, 0, 0)
    offset: int = 0

    @classmethod
    def in_image(
        cls,
        image: Image,
        columns: int,
        heads: int = 1,
        *,
        in_channels: bool = False,
        first_channel: int = 0,
    ) -> Matrices:
        """Matrices whose rows follow the width of an image: one head for each line.

        Args:
            image: (batch, heads, rows, columns or more); or, with `in_channels`,
                (batch, 1, rows, channels), where each row holds those of all heads side by side.
            columns: Columns of one matrix.
            heads: Matrices for each image of the batch.
            in_channels: The heads lie in the channels.
            first_channel: The channel where the first matrix begins.
        """
        _, height, width, channels = image.shape
        top, left, _, _ = image.halo
        head = columns if in_channels else width * channels
        strides = (height * width * channels, head, channels)
        offset = (top * width + left) * channels + first_channel
        return cls(image, image.width, columns, image.batch, heads, strides, offset)

    @property
    def has_one_for_all(self) -> bool:
        """All images of the batch share the same matrices."""
        return self.batch == 1 or self.strides[0] == 0

    def matrix(self, buffer: Buffer, batch: Expr, head: Expr) -> Matrix:
        """One of the matrices in the tensor's memory, seen as one line."""
        start = self.offset + batch * self.strides[0] + head * self.strides[1]
        return Matrix(buffer, T.Bind(start), self.strides[2], self.rows, self.columns)
