"""Products whose weights are stored as two of every four elements along the depth (2:4)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from gcompile.backends.cuda.kernel import Buffer as Flat
from gcompile.backends.cuda.kernels.copies import Copies
from gcompile.backends.cuda.kernels.main_loop import MainLoop
from gcompile.backends.cuda.kernels.metadata_copies import MetadataCopies
from gcompile.backends.cuda.kernels.pack_sparse import RUN, sparse_pitch, unpack_sparse
from gcompile.backends.cuda.kernels.product import Product
from gcompile.backends.cuda.kernels.sparse_fragments import SparseFragments
from gcompile.backends.cuda.program.program import Buffer


@dataclass(frozen=True)
class SparseProduct(Product):
    """One product; after `weights` its programs take the `metadata` that `pack_sparse` gives.

    `weights_pitch` counts the elements that are stored.
    """

    @property
    def stages(self) -> int:
        """Stages of the whole depth."""
        return super().copies.stages * self.tile.split

    @property
    def runs(self) -> int:
        """Runs of 16 columns that blocks have, those that do not exist included."""
        return self.blocks[1] * self.tile.columns // RUN

    @property
    def metadata(self) -> Buffer:
        """Which weights were kept."""
        lanes = 32 * self.instruction.metadata_words
        return Buffer("metadata", "int32", self.stages * self.runs * lanes)

    @property
    def operands(self) -> tuple[Buffer, ...]:
        """What is multiplied, and which weights were kept."""
        return *super().operands, self.metadata

    def dense(self, weights: Flat, metadata: Flat) -> Flat:
        """The weights (columns, depth) with their zeros, from what the programs read."""
        shape = (self.stages, self.runs, 32, self.instruction.metadata_words)
        return unpack_sparse(weights, metadata.reshape(shape), self.contraction.k)

    @property
    def copies(self) -> Copies:
        """What every block copies on its way along the depth."""
        return replace(super().copies, metadata=MetadataCopies(self.metadata, self.blocks[1]))

    def _check(self) -> None:
        super()._check()
        if self.batch > 1 or self.tile.metadata_words != self.instruction.metadata_words:
            raise ValueError("Sparse weights are those of one product, cut into sparse tiles.")
        size = self.instruction.element_bytes
        if self.weights_pitch != sparse_pitch(self.contraction.k, size):
            raise ValueError("Weights have not the size that packing gives them.")

    def _loop(self, copies: Copies) -> MainLoop:
        return MainLoop(SparseFragments(self.instruction, copies))
