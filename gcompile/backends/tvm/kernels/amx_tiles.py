"""Which of the eight AMX tile registers holds what, and how a tile instruction is emitted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm.tirx import Expr
from tvm.tirx.script import builder as T

Issue = Callable[..., None]
"""Emit one instruction: its LLVM name without `llvm.x86.`, then its operands."""

_REGISTERS = 8


def issue_instruction(name: str, *operands: Expr) -> None:
    """Emit the machine's own instruction."""
    T.evaluate(T.call_llvm_intrin("void", f"llvm.x86.{name}", *operands))


def pixels_per_tile(line: int, is_flat: bool) -> int:
    """As many pixels as a tile has rows, or an even share of a line of the image."""
    return 16 if is_flat else -(-line // -(-line // 16))


def depth_tile_bytes(run_bytes: int) -> int:
    """The largest part of a run that fits a tile and divides the run."""
    return max((size for size in range(4, 65, 4) if run_bytes % size == 0), default=4)


@dataclass(frozen=True, slots=True)
class TileLayout:
    """A block of `rows` by `columns` accumulator tiles, and the operands that feed it.

    The operand along the shorter side stays loaded during one step of depth, and the other one
    streams through the registers that are left. One tile has `pixels` rows (at most 16), and one
    step of depth is `depth_bytes` (at most 64) of each.
    """

    rows: int
    columns: int
    pixels: int
    depth_bytes: int

    @property
    def holds_weights(self) -> bool:
        """The weights are the operand that stays loaded."""
        return self.columns <= self.rows

    def sum_tile(self, row: int, column: int) -> Expr:
        """The accumulator of a tile of pixels and a tile of channels."""
        return T.uint8(row * self.columns + column)

    def pixel_tile(self, row: int) -> Expr:
        """The register that a tile of pixels is loaded into."""
        return T.uint8(self._operands + row % self._pixel_tiles)

    def weight_tile(self, column: int) -> Expr:
        """The register that a tile of weights is loaded into."""
        return T.uint8(self._operands + self._pixel_tiles + column % self._weight_tiles)

    def configuration(self) -> list[int]:
        """The 16 words that `ldtilecfg` reads: palette 1, bytes per row, and rows of each tile."""
        weights = (64, self.depth_bytes // 4)
        shapes = [(64, self.pixels)] * self._operands
        shapes += [(self.depth_bytes, self.pixels)] * self._pixel_tiles
        shapes += [weights] * (_REGISTERS - len(shapes))
        stored = bytearray(64)
        stored[0] = 1
        for index, (row_bytes, rows) in enumerate(shapes):
            stored[16 + 2 * index : 18 + 2 * index] = row_bytes.to_bytes(2, "little")
            stored[48 + index] = rows
        words = range(0, 64, 4)
        return [int.from_bytes(stored[word : word + 4], "little") for word in words]

    @property
    def _operands(self) -> int:
        return self.rows * self.columns

    @property
    def _pixel_tiles(self) -> int:
        free = _REGISTERS - self._operands
        return min(self.rows, free - self.columns) if self.holds_weights else self.rows

    @property
    def _weight_tiles(self) -> int:
        free = _REGISTERS - self._operands
        return self.columns if self.holds_weights else min(self.columns, free - self.rows)
