"""A model opened to run on any number of rows."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import onnx

from gcompile import ir
from gcompile.backends.onnxruntime.free_batch import with_free_batch
from gcompile.backends.onnxruntime.large_weights import leave_in_file
from gcompile.backends.onnxruntime.session import Optimization, open_session, run_session
from gcompile.errors import InvalidModelError, RunError
from gcompile.passes import Arrays
from gcompile.runtime.counts import Count, without_rest

if TYPE_CHECKING:
    import onnxruntime

_PROBED_ROWS = 3
_MOST_ROWS_AT_ONCE = 64
_BYTES_AT_ONCE = 16 << 20
"""Of the largest activation, for all rows that run together: larger ones leave the caches, and a
session keeps the memory of its largest run."""

_OPERATIONS_AT_ONCE = 8_000_000_000
"""Of products, for all rows that run together: pieces with more to do run side by side instead."""

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_PROBE_TOLERANCE = 1e-3


@dataclass
class RowSession:
    """A model opened with its own batch, and with a free one where that works.

    Attributes:
        specs: The shape of each input.
        weights: What the protobuf only declares; sessions use these arrays in place.
        proven: Families of models whose rows were seen to agree with single inferences.
        at_once: Rows that run together.
        side_by_side: How many such pieces run at the same time.
        counts: Which outputs are buffers, and what says how much of them counts.
        folder: Where the file of weights lies that are not among these.
        kept: The tensors that the model was made from.
    """

    specs: Mapping[str, tuple[int, ...]]
    proto: onnx.ModelProto
    weights: Mapping[str, ir.Array]
    threads: int
    optimization: Optimization
    proven: set[object]
    at_once: int = _MOST_ROWS_AT_ONCE
    side_by_side: int = 1
    counts: tuple[Count, ...] = ()
    folder: str = ""
    kept: list[object] = field(default_factory=list, repr=False)
    fixed: onnxruntime.InferenceSession | None = None
    free: onnxruntime.InferenceSession | None = None
    probed: bool = False
    opening: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @classmethod
    def of(
        cls,
        model: ir.Model,
        threads: int,
        optimization: Optimization,
        proven: set[object],
        side_by_side: int = 1,
    ) -> RowSession:
        """Take a model; sessions open when they are first needed."""
        graphs = ir.all_graphs(model)
        tensors: list[object] = [v.const_value for g in graphs for v in g.initializers.values()]
        proto, weights = ir.split_weights(model)
        folder = leave_in_file(model, proto, weights)
        return cls(
            specs_of(model),
            proto,
            weights,
            threads,
            optimization,
            proven,
            _rows_at_once(model),
            side_by_side,
            counts_of(model),
            folder,
            tensors,
        )

    def run(self, inputs: Arrays) -> dict[str, ir.Array]:
        """Run all rows.

        Raises:
            RunError: An input is missing or does not fit, or the model cannot be run.
        """
        count = _inferences(inputs, self.specs)
        if count == 1:
            return self._run(self._fixed(), self._rows(inputs, 0, 1))
        first: list[dict[str, ir.Array]] = []
        with self.opening:
            if not self.probed:
                self.free, first = self._open_free(inputs, count)
                self.probed = True
        if self.free is not None:
            return self._in_pieces(self.free, inputs, count, self.at_once, first)
        return self._in_pieces(self._fixed(), inputs, count, 1)

    def _fixed(self) -> onnxruntime.InferenceSession:
        """The session of the model's own batch."""
        with self.opening:
            if self.fixed is None:
                self.fixed = self._open(self.proto)
            return self.fixed

    def _run(
        self, session: onnxruntime.InferenceSession, feeds: Mapping[str, ir.Array]
    ) -> dict[str, ir.Array]:
        """Run one batch; of buffers, only what counts."""
        return without_rest(run_session(session, feeds), self.counts)

    def _open(self, proto: onnx.ModelProto) -> onnxruntime.InferenceSession:
        return open_session(proto, self.weights, self.threads, self.optimization, self.folder)

    def _in_pieces(
        self,
        session: onnxruntime.InferenceSession,
        inputs: Arrays,
        count: int,
        size: int,
        first: Sequence[dict[str, ir.Array]] = (),
    ) -> dict[str, ir.Array]:
        """Run and join; `first` are the outputs of the first pieces, where they are known.

        How rows are cut, and so how results are rounded, does not depend on the CPUs there are.
        """
        pieces = [
            self._rows(inputs, start, min(start + size, count))
            for start in range(len(first) * size, count, size)
        ]
        found = [*first, *self._run_all(session, pieces)]
        if len(found) == 1:
            return {name: np.atleast_1d(array) for name, array in found[0].items()}
        # Pieces go as they are joined: of all values of a model there are many.
        return {
            name: np.concatenate([np.atleast_1d(outputs.pop(name)) for outputs in found])
            for name in list(found[0])
        }

    def _run_all(
        self, session: onnxruntime.InferenceSession, pieces: Sequence[Mapping[str, ir.Array]]
    ) -> list[dict[str, ir.Array]]:
        """Run pieces, several at the same time where that is allowed."""
        if min(len(pieces), self.side_by_side) < 2:
            return [self._run(session, piece) for piece in pieces]
        with ThreadPoolExecutor(self.side_by_side) as pool:
            return list(pool.map(lambda piece: self._run(session, piece), pieces))

    def _rows(self, inputs: Arrays, start: int, end: int) -> dict[str, ir.Array]:
        rows = {}
        for name, shape in self.specs.items():
            if not shape:
                rows[name] = inputs[name]
                continue
            piece = inputs[name][start * shape[0] : end * shape[0]]
            rows[name] = piece if end - start > 1 else piece.reshape(shape)
        return rows

    def _open_free(
        self, inputs: Arrays, count: int
    ) -> tuple[onnxruntime.InferenceSession | None, list[dict[str, ir.Array]]]:
        """Free the batch dimension, and believe the result only where rows agree one by one.

        Rewritten variants of a model that agreed need not prove it again: for them it is enough
        that every output has a row for each inference. Their first piece is returned, too.
        """
        if self.counts or any(not shape or shape[0] != 1 for shape in self.specs.values()):
            return None, []
        try:
            session = self._open(with_free_batch(self.proto))
            family = (
                tuple(self.specs.items()),
                tuple(value.name for value in self.proto.graph.output),
            )
            is_proven = family in self.proven  # Other threads add to it.
            rows = min(count, self.at_once if is_proven else _PROBED_ROWS)
            few = {name: array[:rows] for name, array in inputs.items() if name in self.specs}
            together = run_session(session, few)
        except RunError:
            return None, []
        if is_proven:
            fits = all(len(array) == rows for array in together.values() if array.ndim)
            return (session, [together]) if fits else (None, [])
        alone = self._in_pieces(self._fixed(), few, rows, 1)
        if not all(_agree(alone[name], together[name]) for name in alone):
            return None, []
        self.proven.add(family)
        return session, []


def _rows_at_once(model: ir.Model) -> int:
    """As many rows as keep the largest activation small, and their work short."""
    values = (value for node in model.graph for value in node.outputs)
    known = (v for v in values if v.shape is not None and v.shape.is_static())
    largest = max(map(ir.value_bytes, known), default=1)
    work = max(_product_operations(model), 1)
    fits = min(_BYTES_AT_ONCE // max(largest, 1), _OPERATIONS_AT_ONCE // work)
    return min(max(fits, 1), _MOST_ROWS_AT_ONCE)


def _product_operations(model: ir.Model) -> int:
    """Of the products of the main graph; 0 where a shape is not known."""
    try:
        return ir.operations_of(node for node in model.graph if node.op_type in _PRODUCTS)[0]
    except InvalidModelError:
        return 0


def _agree(alone: ir.Array, together: ir.Array) -> bool:
    if alone.shape != together.shape or alone.dtype != together.dtype:
        return False
    if alone.dtype.kind != "f":
        return bool((alone == together).all())
    finite = np.isfinite(alone)
    if not np.array_equal(alone[~finite], together[~finite], equal_nan=True):
        return False
    want, got = alone[finite].astype(np.float64), together[finite].astype(np.float64)
    limit = _PROBE_TOLERANCE * float(np.abs(want).max(initial=0.0))
    return bool((np.abs(want - got) <= limit).all())


def _inferences(inputs: Arrays, specs: Mapping[str, tuple[int, ...]]) -> int:
    """How many inferences the arrays hold.

    Raises:
        RunError: An input is missing or of the wrong shape, or the arrays disagree.
    """
    counts: dict[str, int] = {}
    for name, shape in specs.items():
        if name not in inputs:
            raise RunError(
                f"Input {name!r} is missing. The model's inputs are: {', '.join(specs)}."
            )
        array = inputs[name]
        if not shape and array.ndim == 0:
            continue
        fits = array.ndim == len(shape) > 0 and array.shape[1:] == shape[1:]
        if not fits or not len(array) or len(array) % shape[0]:
            raise RunError(
                f"Input {name!r} has shape {array.shape}; the model takes {shape}"
                + (", with any multiple of the leading dimension as rows." if shape else ".")
            )
        counts[name] = len(array) // shape[0]
    if len(set(counts.values())) > 1:
        raise RunError(f"The inputs hold different numbers of rows: {counts}.")
    return next(iter(counts.values()), 1)


def family_of(model: ir.Model) -> object:
    """What a model has in common with its rewritten variants: names of inputs and outputs."""
    return tuple(specs_of(model).items()), tuple(str(v.name) for v in model.graph.outputs)


def counts_of(model: ir.Model) -> tuple[Count, ...]:
    return tuple(Count(*item) for item in ir.counts_of(model))


def specs_of(model: ir.Model) -> dict[str, tuple[int, ...]]:
    return {str(value.name): ir.static_shape(value) for value in model.graph.inputs}
