"""How a contraction is cut into pieces that fit registers and caches.

One tile per region. The tile pass chooses it, the energy model prices the traffic it causes, and
the code generator emits exactly it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Tile:
    """The blocking of one implicit matrix product of M rows, N columns and depth K.

    Attributes:
        unit: The execution unit it is meant for, as the target names it (`avx512-vnni`, …).
        rows: Rows of M in one register block: vector units count pixels, tile units (AMX) count
            tile registers of up to 16 rows.
        columns: Vectors (or tile registers) of N in one register block.
        flat: M runs over the padded image as one line, crossing row ends; the columns that fall
            into the halo are computed and not stored. Only for stride 1 and batch 1.
        outer: The operand whose blocks the outer loop walks: `m` or `n`.
        split: The dimension that is split over threads.
        threads: How many threads share the region.
        winograd: Side of the output tiles of Winograd's algorithm, whose products are those of
            each frequency; 0 for the direct one.
        block: Such tiles that are transformed, multiplied and transformed back together.
    """

    unit: str
    rows: int
    columns: int
    flat: bool = False
    outer: Literal["m", "n"] = "n"
    split: Literal["m", "n"] = "m"
    threads: int = 1
    winograd: int = 0
    block: int = 0

    def to_text(self) -> str:
        """Write the tile as it is kept in a node's metadata."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Tile:
        """Read a tile back from a node's metadata."""
        return cls(**json.loads(text))
