"""A generic CPU schedule for the functions TVM makes of operators we do not emit ourselves.

Unscheduled, such a function is scalar and serial. The schedule is built from three ideas: cheap
producers are inlined, the innermost loop becomes vectors, and the outermost loops run in parallel.
A reduction along the last axis gets one partial result per vector lane; a reduction along another
axis keeps a block of columns in registers while the rows stream past.

Every step is optional: where a function has a form that a step does not fit, it is left as it is.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import tvm
import tvm_ffi
from tvm import s_tir, tirx
from tvm.s_tir.dlight.analysis import SBlockInfo, normalize_prim_func
from tvm.s_tir.schedule import LoopRV
from tvm.s_tir.schedule import SBlockRV as BlockRV
from tvm.sym import Analyzer
from tvm.target import Target
from tvm.target.codegen import llvm_cpu_has_features

Indices = tuple[tirx.Expr, ...]

_VECTORS_OF_COLUMNS = 4
"""Vectors of columns that a column reduction sums up at once, in registers."""

_FEWEST_LANES = 4
"""Narrower vectors are not worth their code."""

_STEP_FAILURES = (RuntimeError, ValueError, TypeError, IndexError)
"""What TVM raises where a primitive does not fit; `ScheduleError` is a `RuntimeError`."""


@dataclass(frozen=True)
class CpuSchedule:
    """Vectorize and parallelize one function.

    Attributes:
        lanes: float32 elements of one vector register.
        threads: Threads the code will run on; with one there are no parallel loops.
    """

    lanes: int
    threads: int

    @classmethod
    def for_target(cls, target: Target, threads: int) -> CpuSchedule:
        """The schedule for the vector registers of a target."""
        if target.attrs.get("mtriple", "").startswith("aarch64"):
            return cls(4, threads)
        return cls(16 if llvm_cpu_has_features("avx512f", target) else 8, threads)

    def apply(self, function: tirx.PrimFunc) -> tirx.PrimFunc:
        """Schedule the function, or return it as it is if nothing is known to help."""
        schedule = s_tir.Schedule(function)
        blocks = normalize_prim_func(schedule)
        if blocks is None:
            return function
        for block in inline_cheap_blocks(schedule, blocks):
            attempt = schedule.copy()
            with suppress(*_STEP_FAILURES):
                self._schedule_block(attempt, block)
                schedule = attempt
        return schedule.mod["main"].with_attrs(function.attrs)

    def _schedule_block(self, schedule: s_tir.Schedule, block: SBlockInfo) -> None:
        loops, kinds = schedule.get_loops(block.block_rv), block.dom_kind()
        if not loops or len(loops) != len(kinds) or set(kinds) - set("SR"):
            return
        spatial = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "S"]
        reduced = [loop for loop, kind in zip(loops, kinds, strict=True) if kind == "R"]
        if not reduced:
            self._schedule_map(schedule, block.block_rv, spatial)
        elif not spatial or _reduces_the_last_axis(schedule.get(block.block_rv)):
            self._schedule_row_reduction(schedule, block.block_rv, spatial, reduced)
        else:
            self._schedule_column_reduction(schedule, block.block_rv, spatial, reduced)

    def _schedule_map(self, schedule: s_tir.Schedule, block: BlockRV, loops: list[LoopRV]) -> None:
        """One result per iteration: vectors inside, threads outside."""
        outer = loops[:-1]
        lanes = self._dividing_lanes(_extent(schedule, loops[-1]))
        if lanes > 1 and _is_contiguous(schedule.get(block)):
            vectors, lane = schedule.split(loops[-1], [None, lanes])
            schedule.vectorize(lane)
            outer = outer or [vectors]
        self._parallelize(schedule, outer)

    def _schedule_row_reduction(
        self,
        schedule: s_tir.Schedule,
        block: BlockRV,
        spatial: list[LoopRV],
        reduced: list[LoopRV],
    ) -> None:
        """The last axis is summed: each lane sums its own part of it, the parts are added last."""
        schedule.reorder(*spatial, *reduced)
        lanes = self._dividing_lanes(_extent(schedule, reduced[-1]))
        if lanes == 1:
            self._parallelize(schedule, spatial)
            return
        _, lane = schedule.split(reduced[-1], [None, lanes])
        partial = schedule.rfactor(lane, -1)
        loops = schedule.get_loops(partial)
        outer, steps, lane = loops[: len(spatial)], loops[len(spatial) : -1], loops[-1]
        schedule.vectorize(lane)
        self._parallelize(schedule, outer)
        self._start_apart(schedule, partial, steps[0])

    def _schedule_column_reduction(
        self,
        schedule: s_tir.Schedule,
        block: BlockRV,
        spatial: list[LoopRV],
        reduced: list[LoopRV],
    ) -> None:
        """Another axis is summed: rows are added to a block of columns, vector by vector."""
        columns = spatial[-1]
        count = _extent(schedule, columns)
        lanes = self._dividing_lanes(count)
        if lanes == 1:
            self._parallelize(schedule, spatial[:-1])
            return
        widest = min(count, _VECTORS_OF_COLUMNS * lanes)
        width = max(w for w in range(lanes, widest + 1, lanes) if count % w == 0)
        blocks, vectors, lane = schedule.split(columns, [None, width // lanes, lanes])
        schedule.reorder(*spatial[:-1], blocks, *reduced, vectors, lane)
        sums = schedule.cache_write(block, 0, "global")  # Small enough to live in registers.
        schedule.reverse_compute_at(sums, blocks)
        _, written = schedule.split(schedule.get_loops(sums)[-1], [None, lanes])
        schedule.vectorize(written)
        schedule.vectorize(lane)
        schedule.unroll(vectors)
        self._parallelize(schedule, [*spatial[:-1], blocks])
        self._start_apart(schedule, block, reduced[0])

    def _start_apart(self, schedule: s_tir.Schedule, block: BlockRV, loop: LoopRV) -> None:
        """Set sums to zero before the loop. Last of all: TVM refuses most steps afterwards."""
        start = schedule.decompose_reduction(block, loop)
        with suppress(*_STEP_FAILURES):
            schedule.vectorize(schedule.get_loops(start)[-1])

    def _parallelize(self, schedule: s_tir.Schedule, loops: list[LoopRV]) -> None:
        """Share the iterations of adjacent outer loops out among the threads."""
        if self.threads > 1 and loops:
            schedule.parallel(schedule.fuse(*loops) if len(loops) > 1 else loops[0])

    def _dividing_lanes(self, count: int) -> int:
        """The widest vector that divides the elements evenly; 1 if none does."""
        lanes = self.lanes
        while lanes >= _FEWEST_LANES:
            if count % lanes == 0:
                return lanes
            lanes //= 2
        return 1


def inline_cheap_blocks(schedule: s_tir.Schedule, blocks: list[SBlockInfo]) -> list[SBlockInfo]:
    """Inline what costs less to compute again than to write and read; return what remains."""
    remaining = []
    for block in blocks:
        if block.is_injective() and _may_inline(schedule, block.block_rv):
            with suppress(*_STEP_FAILURES):
                schedule.compute_inline(block.block_rv)
                continue
        remaining.append(block)
    return remaining


def _may_inline(schedule: s_tir.Schedule, block: BlockRV) -> bool:
    """Whether to compute a block's values again where they are used.

    Formulas with named parts stay on their own: TVM's simplifier puts the parts in place of their
    names, and the code of one such formula within another would grow exponentially.
    """
    names, calls = _formula(schedule.get(block))
    return not names and (not calls or len(schedule.get_consumers(block)) == 1)


def _formula(block: tirx.SBlock) -> tuple[list[tirx.Let], list[tvm.ir.Call]]:
    """The let-expressions and the calls of a block's values."""
    names: list[tirx.Let] = []
    calls: list[tvm.ir.Call] = []
    tvm_ffi.structural_walk(block.body, [(tirx.Let, names.append), (tvm.ir.Call, calls.append)])
    return names, calls


def _reduces_the_last_axis(block: tirx.SBlock) -> bool:
    """Whether consecutive steps of the innermost sum read consecutive elements."""
    step = [item.var for item in block.iter_vars if item.iter_type == tirx.IterVar.CommReduce][-1]
    return any(indices and _uses(indices[-1], step) for indices in _accesses(block))


def _is_contiguous(block: tirx.SBlock) -> bool:
    """Whether vectors along the last axis are read and written whole, or are one element."""
    lane = block.iter_vars[-1].var
    return all(_is_vector_access(indices, lane) for indices in _accesses(block))


def _is_vector_access(indices: Indices, lane: tirx.Var) -> bool:
    if not indices or not any(_uses(index, lane) for index in indices):
        return True
    *outer, last = indices
    if any(_uses(index, lane) for index in outer):
        return False
    return not _uses(Analyzer().simplify(last - lane), lane)


def _accesses(block: tirx.SBlock) -> list[Indices]:
    """The indices of every load and store."""
    found: list[Indices] = []
    tvm_ffi.structural_walk(
        block.body,
        [
            (tvm.ir.TensorLoad, lambda load: found.append(tuple(load.indices))),
            (tirx.BufferStore, lambda store: found.append(tuple(store.indices))),
        ],
    )
    return found


def _uses(expression: tirx.Expr, variable: tirx.Var) -> bool:
    found: list[tirx.Var] = []
    tvm_ffi.structural_walk(expression, (tirx.Var, found.append))
    return any(other.same_as(variable) for other in found)


def _extent(schedule: s_tir.Schedule, loop: LoopRV) -> int:
    return int(schedule.get(loop).extent)
