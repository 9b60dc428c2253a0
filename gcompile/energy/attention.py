"""Price attention as one kernel, whose scores never leave the caches next to the core.

A block of queries passes by blocks of keys. Keys and values are brought into the unit's order
once for each head of keys, and pass by every block of queries from there; the scores of a block
are written once and read again by what makes weights of them and by the second product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from gcompile.energy.blocking import TILE_ROWS, Blocking, blocking
from gcompile.energy.job import AttentionWork, Job
from gcompile.energy.traffic import activation_missed, resident_share
from gcompile.ir import Contraction, Tile
from gcompile.targets import Memory, Target, Unit

_QUERIES = (24, 48)
"""Queries of a block, at least and at most: the scores of 48 take a first-level cache."""

_KEYS = 256
"""The most keys of a block: sums are changed by as few blocks of keys as the cache allows."""

_ROWS_BYTES = 2**17
"""Scores of a block that has all keys, at most: less than every second-level cache."""

_SCORE_PASSES = 5
"""Times that a score or its weight is written or read: by both products and what lies between."""

_ROW_PASSES = 2.5
"""The same where a cache has no room for the rows of a block, but for one: a product writes each,
the softmax reads it and writes bytes, which the other product reads."""

_TILE_PASSES = 2
"""Times more on tile units, whose sums go through memory before they lie as scores."""

_TRANSPOSING = 5
"""Passes over a vector that transpose squares of sixteen: one and log2 16."""

_FLOAT_BYTES = 4


def attention_block(
    queries: int, keys: int, rows: int, lanes: int, has_all_keys: bool = False
) -> tuple[int, int]:
    """Return how many queries and keys a block has.

    Queries are a multiple of the rows of a register block or tile, or all if there are fewer; keys
    one of the lanes of a vector or of the depth of a tile. Blocks that the sizes do not fill are
    kept small. Where one block has all keys, it has fewer queries if these are many.
    """
    high = min(rows, queries)
    blocks = 1 if has_all_keys else math.ceil(keys / _KEYS)
    wide = math.ceil(keys / blocks / lanes) * lanes
    room = _ROWS_BYTES // (_FLOAT_BYTES * wide)
    least, most = (max(1, min(size, queries, room) // high) * high for size in _QUERIES)
    sizes = range(most, least - 1, -high)
    even = min(sizes, key=lambda size: math.ceil(queries / size) * size)
    return even, wide


@dataclass(frozen=True, slots=True)
class AttentionBlocks:
    """How attention is cut.

    Attributes:
        queries: Of a block; `keys` likewise.
        pairs: Blocks of scores that are computed, of all heads.
        seen: The share of all blocks of keys that a block of queries passes by.
        products: Register blocks of both products of a block.
    """

    queries: int
    keys: int
    pairs: float
    seen: float
    products: tuple[Blocking, Blocking]

    @classmethod
    def of(cls, work: AttentionWork, tile: Tile, unit: Unit, target: Target) -> AttentionBlocks:
        """Cut as the kernel for `unit` does."""
        rows, step, depth = tile.rows, unit.lanes, work.depth
        if unit.kind == "matrix":  # Vectors are read in whole tiles.
            rows, step = TILE_ROWS, TILE_ROWS * unit.depth
            depth = math.ceil(depth / step) * step
        queries, keys = attention_block(work.queries, work.keys, rows, step, work.rounds_weights)
        across = math.ceil(work.queries / queries)
        along = math.ceil(work.keys / keys)
        seen = sum(_seen(work, i, queries, keys) for i in range(across)) / (across * along)
        products = (
            blocking(Contraction.matmul(queries, depth, keys), tile, unit, target),
            blocking(Contraction.matmul(queries, keys, work.depth), tile, unit, target),
        )
        return cls(queries, keys, work.heads * across * along * seen, seen, products)

    def score_passes(self, work: AttentionWork, capacity_bytes: float) -> float:
        """Times that scores pass a cache of which a block of them takes more than there is."""
        if not work.rounds_weights:
            return _SCORE_PASSES
        stays = resident_share(self.keys * _FLOAT_BYTES, capacity_bytes)
        return _SCORE_PASSES - (_SCORE_PASSES - _ROW_PASSES) * stays


def _seen(work: AttentionWork, index: int, queries: int, keys: int) -> int:
    """Blocks of keys that the last query of a block sees any of."""
    if not work.is_causal:
        return math.ceil(work.keys / keys)
    last = min((index + 1) * queries, work.queries) + work.keys - work.queries
    return math.ceil(last / keys)


def attention_compute(job: Job, work: AttentionWork, tile: Tile, target: Target, unit: Unit,
                      vector: Unit) -> tuple[float, float]:  # fmt: skip
    """Return the seconds and joules of arithmetic."""
    blocks = AttentionBlocks.of(work, tile, unit, target)
    items = work.heads * math.ceil(work.queries / blocks.queries)
    busy = math.ceil(items / tile.threads) / items
    cycles = blocks.pairs * busy * sum(product.cycles for product in blocks.products)
    seconds = cycles / (target.clock_hz * unit.efficiency)
    joules = blocks.pairs * sum(product.issued_ops for product in blocks.products) * unit.op_j
    packed = work.key_heads * work.keys * work.depth * job.precision.bits / 32
    operations = job.vector_ops * blocks.seen + packed * (_TRANSPOSING + 1)
    rate = vector.peak_ops_per_s * target.vector_efficiency * tile.threads / target.cores
    return seconds + operations / rate, joules + operations * vector.op_j


def attention_traffic(
    job: Job, work: AttentionWork, tile: Tile, target: Target, unit: Unit
) -> dict[str, float]:
    """Return the bytes that leave each level towards the cores, of all threads together."""
    blocks = AttentionBlocks.of(work, tile, unit, target)
    first = target.memories[0]
    once = sum(job.activation_bytes) + job.constant_bytes
    loaded = sum(product.loaded_bytes for product in blocks.products)
    scores = blocks.queries * blocks.keys * _FLOAT_BYTES
    packed = sum(product.weight_bytes for product in blocks.products)
    packed *= math.ceil(work.keys / blocks.keys)
    passes = blocks.pairs * (_SCORE_PASSES + (_TILE_PASSES if unit.kind == "matrix" else 0))
    sent = {first.name: once + blocks.pairs * loaded + passes * scores + work.key_heads * packed}
    for inner, outer in zip(target.memories, target.memories[1:], strict=False):
        missed = _missed(job, tile, inner)
        again = blocks.pairs * blocks.score_passes(work, inner.size_bytes)
        missed += again * scores * (1 - resident_share(scores, inner.size_bytes))
        walks = blocks.pairs * blocks.keys / work.keys
        missed += walks * packed * (1 - resident_share(packed + scores, inner.size_bytes))
        missed += work.key_heads * packed * activation_missed(packed, inner.size_bytes)
        sent[outer.name] = missed
    return sent


def _missed(job: Job, tile: Tile, cache: Memory) -> float:
    """Bytes of operands, masks and the result that are not in a cache when they are needed."""
    size_bytes = cache.size_bytes * (tile.threads if cache.per_core else 1)
    operands = (*job.activation_bytes, job.constant_bytes)
    return sum(size * activation_missed(size, size_bytes) for size in operands)
