"""Run models on rows; sessions are kept, so that the same model opens once."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass, field

from gcompile import ir
from gcompile.backends.onnxruntime.rows import RowSession, family_of
from gcompile.backends.onnxruntime.session import Optimization
from gcompile.passes import Arrays
from gcompile.runtime.threads import available_cpus

_KEPT_SESSIONS = 8


@dataclass
class OnnxRuntime:
    """Runs models on rows; keeps the last few sessions, keyed by the model's bytes.

    An array may hold many rows: axis 0 holds a multiple of the model's leading dimension, the same
    multiple for every input; a scalar is the same for all rows. A model of batch 1 runs all rows
    at once where that provably gives the same results, else one inference at a time; outputs are
    joined along axis 0. Several threads may run different models at once.

    Attributes:
        threads: Of one operator.
        side_by_side: How many pieces of many rows run at the same time; results do not depend on
            it.
    """

    threads: int = 1
    side_by_side: int = field(default_factory=lambda: len(available_cpus()))
    optimization: Optimization = Optimization.NONE
    _sessions: dict[str, RowSession] = field(default_factory=dict, repr=False)
    proven: set[object] = field(default_factory=set, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __call__(self, model: ir.Model, inputs: Arrays) -> dict[str, ir.Array]:
        """Run the model on one batch, or on all rows as `run_rows` does."""
        return self.run_rows(model, inputs)

    def run_rows(
        self,
        model: ir.Model,
        inputs: Arrays,
        whole: ir.Model | None = None,
        *,
        is_quick: bool = False,
    ) -> dict[str, ir.Array]:
        """Run the model on all rows.

        Args:
            model: What to run.
            inputs: Rows for each of its inputs.
            whole: The model it was cut from, if any: a model whose rows were seen to be
                independent vouches for its pieces.
            is_quick: Fuse float nodes; worth opening a session for where rows are many.

        Raises:
            RunError: An input is missing or does not fit, or the model cannot be run.
            BackendUnavailableError: onnxruntime is not installed.
        """
        session = self._session(model, is_quick)
        if whole is not None and family_of(whole) in self.proven:
            self.proven.add(family_of(model))
        return session.run(inputs)

    def _session(self, model: ir.Model, is_quick: bool) -> RowSession:
        optimization = self.optimization
        if is_quick and optimization is Optimization.NONE:
            optimization = Optimization.FLOAT
        key = f"{optimization.name} {_identity(model)}"
        with self._lock:
            session = self._sessions.pop(key, None) or RowSession.of(
                model, self.threads, optimization, self.proven, self.side_by_side
            )
            self._sessions[key] = session
            while len(self._sessions) > _KEPT_SESSIONS:
                self._sessions.pop(next(iter(self._sessions)))
        return session


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


def run(model: ir.Model, inputs: Arrays) -> dict[str, ir.Array]:
    """Run the model once, exactly as its nodes say. Keep an `OnnxRuntime` to run more often."""
    return OnnxRuntime()(model, inputs)
