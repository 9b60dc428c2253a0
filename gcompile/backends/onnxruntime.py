"""ONNX Runtime: the reference that compiled code and rewrites are compared with."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from gcompile import ir
from gcompile.errors import BackendUnavailableError, RunError
from gcompile.passes import Arrays

if TYPE_CHECKING:
    import onnxruntime

Array = NDArray[np.generic]

_LARGE_BYTES = 1 << 30
_KEPT_SESSIONS = 8
_PROBED_ROWS = 3
_ROWS_AT_ONCE = 64
_PROBE_TOLERANCE = 1e-3
_BATCH = "gcompile_batch"


class Optimization(Enum):
    """Which graph optimisations ONNX Runtime may do."""

    NONE = "none: every node runs as it is written"
    ALL = "all: Q/DQ groups become integer kernels"


def why_unavailable() -> str | None:
    """Say why ONNX Runtime cannot be used here; None when it can."""
    try:
        _import()
    except BackendUnavailableError as error:
        return str(error)
    return None


@dataclass
class OnnxRuntime:
    """Runs models on rows; keeps the last few sessions, keyed by the model's bytes.

    An array may hold many rows: axis 0 holds a multiple of the model's leading dimension, the same
    multiple for every input; a scalar is the same for all rows. A model of batch 1 runs all rows
    at once where that provably gives the same results, else one inference at a time; outputs are
    joined along axis 0.
    """

    threads: int = 1
    optimization: Optimization = Optimization.NONE
    _sessions: dict[str, _Session] = field(default_factory=dict, repr=False)
    proven: set[object] = field(default_factory=set, repr=False)

    def __call__(self, model: ir.Model, inputs: Arrays) -> dict[str, Array]:
        """Run the model on one batch, or on all rows as `run_rows` does."""
        return self.run_rows(model, inputs)

    def run_rows(self, model: ir.Model, inputs: Arrays) -> dict[str, Array]:
        """Run the model on all rows.

        Raises:
            RunError: An input is missing or does not fit, or the model cannot be run.
            BackendUnavailableError: onnxruntime is not installed.
        """
        return self._session(model).run(inputs)

    def _session(self, model: ir.Model) -> _Session:
        if _weight_bytes(model) > _LARGE_BYTES:
            return _Session.from_large(model, self)
        key = _identity(model)
        session = self._sessions.pop(key, None) or _Session.of(model, self)
        self._sessions[key] = session
        while len(self._sessions) > _KEPT_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        return session

    def open(self, source: bytes | Path) -> onnxruntime.InferenceSession:
        """Open a session on a serialized model or a file."""
        ort = _import()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.graph_optimization_level = (
            ort.GraphOptimizationLevel.ORT_ENABLE_ALL
            if self.optimization is Optimization.ALL
            else ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        )
        given = source if isinstance(source, bytes) else str(source)
        try:
            return ort.InferenceSession(given, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise RunError(f"ONNX Runtime cannot load the model: {_first_line(error)}") from error


def _identity(model: ir.Model) -> str:
    """Tell models apart by what they compute; constants by which tensor they are.

    Copies of a model share their tensors. A session keeps those it was made from, so that none of
    them goes and leaves its identity to another.
    """
    digest = hashlib.sha256()
    for graph in ir.all_graphs(model):
        for value in graph.initializers.values():
            digest.update(f"{value.name}={id(value.const_value)};".encode())
        for node in graph:
            digest.update(ir.node_proto(node).SerializeToString(deterministic=True))
        digest.update(repr([v.name for v in (*graph.inputs, *graph.outputs)]).encode())
    return digest.hexdigest()


def run(model: ir.Model, inputs: Arrays) -> dict[str, Array]:
    """Run the model once, exactly as its nodes say. Keep an `OnnxRuntime` to run more often."""
    return OnnxRuntime()(model, inputs)


@dataclass
class _Session:
    """A model opened with its own batch, and with a free one where that works."""

    specs: Mapping[str, tuple[int, ...]]
    proto: onnx.ModelProto | None
    runtime: OnnxRuntime
    fixed: onnxruntime.InferenceSession | None = None
    free: onnxruntime.InferenceSession | None = None
    probed: bool = False
    kept: list[object] = field(default_factory=list, repr=False)

    @classmethod
    def of(cls, model: ir.Model, runtime: OnnxRuntime) -> _Session:
        """Open a model that fits protobuf; sessions open when they are first needed."""
        graphs = ir.all_graphs(model)
        tensors: list[object] = [v.const_value for g in graphs for v in g.initializers.values()]
        return cls(_specs(model), ir.to_proto(model), runtime, kept=tensors)

    @classmethod
    def from_large(cls, model: ir.Model, runtime: OnnxRuntime) -> _Session:
        """Open a model that does not fit protobuf, through a file with external data."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            ir.save(model, path)
            return cls(_specs(model), None, runtime, runtime.open(path), probed=True)

    def run(self, inputs: Arrays) -> dict[str, Array]:
        count = _inferences(inputs, self.specs)
        if count == 1:
            return _run(self._fixed(), self._rows(inputs, 0, 1))
        if not self.probed:
            self.probed = True
            self.free = self._open_free(inputs, min(count, _PROBED_ROWS))
        if self.free is not None:
            return self._in_pieces(self.free, inputs, count, _ROWS_AT_ONCE)
        return self._in_pieces(self._fixed(), inputs, count, 1)

    def _fixed(self) -> onnxruntime.InferenceSession:
        """The session of the model's own batch."""
        if self.fixed is None:
            assert self.proto is not None
            self.fixed = self.runtime.open(self.proto.SerializeToString())
        return self.fixed

    def _in_pieces(
        self, session: onnxruntime.InferenceSession, inputs: Arrays, count: int, size: int
    ) -> dict[str, Array]:
        found = [
            _run(session, self._rows(inputs, start, min(start + size, count)))
            for start in range(0, count, size)
        ]
        return {
            name: np.concatenate([np.atleast_1d(outputs[name]) for outputs in found])
            for name in found[0]
        }

    def _rows(self, inputs: Arrays, start: int, end: int) -> dict[str, Array]:
        rows = {}
        for name, shape in self.specs.items():
            if not shape:
                rows[name] = inputs[name]
                continue
            piece = inputs[name][start * shape[0] : end * shape[0]]
            rows[name] = piece if end - start > 1 else piece.reshape(shape)
        return rows

    def _open_free(self, inputs: Arrays, rows: int) -> onnxruntime.InferenceSession | None:
        """Free the batch dimension, and believe the result only where rows agree one by one.

        Rewritten variants of a model that agreed need not prove it again: for them it is enough
        that every output has a row for each inference.
        """
        if self.proto is None or any(not shape or shape[0] != 1 for shape in self.specs.values()):
            return None
        few = {name: array[:rows] for name, array in inputs.items() if name in self.specs}
        try:
            session = self.runtime.open(_with_free_batch(self.proto).SerializeToString())
            together = _run(session, few)
        except RunError:
            return None
        family = (tuple(self.specs.items()), tuple(together))
        if family in self.runtime.proven:
            return session if all(len(a) == rows for a in together.values() if a.ndim) else None
        alone = self._in_pieces(self._fixed(), few, rows, 1)
        if not all(_agree(alone[name], together[name]) for name in alone):
            return None
        self.runtime.proven.add(family)
        return session


def _with_free_batch(proto: onnx.ModelProto) -> onnx.ModelProto:
    """A copy whose inputs have a symbolic leading dimension, and reshapes that keep it."""
    free = onnx.ModelProto()
    free.CopyFrom(proto)
    graph = free.graph
    shapes = {v.name: _dims(v) for v in (*graph.value_info, *graph.input, *graph.output)}
    for value in graph.input:
        value.type.tensor_type.shape.dim[0].dim_param = _BATCH
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        leading = shapes.get(node.input[0], ()) if node.input else ()
        if node.op_type == "Reshape" and leading[:1] == (1,) and node.input[1] in constants:
            target = onnx.numpy_helper.to_array(constants[node.input[1]])
            if target.size and target[0] == 1:
                name = f"{node.name}_{_BATCH}"
                kept = np.array([0, *target[1:]], np.int64)
                graph.initializer.append(onnx.numpy_helper.from_array(kept, name))
                node.input[1] = name
    return free


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _agree(alone: Array, together: Array) -> bool:
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


def _run(session: onnxruntime.InferenceSession, feeds: Mapping[str, Array]) -> dict[str, Array]:
    names = [output.name for output in session.get_outputs()]
    try:
        results: Sequence[Any] = session.run(names, dict(feeds))
    except Exception as error:
        raise RunError(f"ONNX Runtime failed: {_first_line(error)}") from error
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def _specs(model: ir.Model) -> dict[str, tuple[int, ...]]:
    return {str(value.name): ir.static_shape(value) for value in model.graph.inputs}


def _weight_bytes(model: ir.Model) -> int:
    return sum(
        value.const_value.nbytes
        for value in model.graph.initializers.values()
        if value.const_value is not None
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _import() -> Any:
    """Import onnxruntime with its telemetry off."""
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise BackendUnavailableError(
            f"onnxruntime cannot be imported ({error}). Install it with: pip install onnxruntime"
        ) from error
    return onnxruntime
