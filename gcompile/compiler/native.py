"""Build code to measure it: every accuracy a search sees is that of the compiled model."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gcompile import ir
from gcompile.backends.code import Code, generate
from gcompile.backends.onnxruntime import OnnxRuntime, Optimization
from gcompile.backends.verify import (
    Noise,
    saturating_outputs,
    seeded_inputs,
    tolerance_for,
    verify_outputs,
)
from gcompile.backends.write_artifact import write_artifact
from gcompile.compiler.execution import Execution, Reference, single_inferences
from gcompile.compiler.job import Job
from gcompile.compiler.stages import Stage
from gcompile.passes import Arrays, Numerics
from gcompile.report import Accuracy, Fidelity, Verify
from gcompile.search import Dataset, cosine, signal_to_noise_db

Array = NDArray[np.generic]

_VERIFIED_ROWS = 6
_FIDELITY_ROWS = 256


@dataclass
class Measurer:
    """Measures accuracy with compiled code; keeps the code of the model it measured last.

    Attributes:
        reference: The model as given, which the reference runtime runs.
        optimized: Runs it as its user would, with every optimization.
    """

    job: Job
    reference: ir.Model
    optimized: OnnxRuntime = field(
        default_factory=lambda: OnnxRuntime(optimization=Optimization.ALL)
    )
    last: tuple[ir.Model, Code] | None = field(default=None, repr=False)

    def code(self, model: ir.Model) -> Code:
        """Generate code for a model, unless it is the last one that was measured."""
        if self.last is None or self.last[0] is not model:
            ctx = self.job.context
            self.last = (
                model,
                generate(model, ctx.target, ctx.threads, self.job.store, self.job.limits),
            )
        return self.last[1]

    def accuracy(self, model: ir.Model) -> float:
        """Build the model and measure the task metric on the evaluation rows.

        Where the code cannot run, nothing is built: the reference runtime runs the model.
        """
        if self.job.executor.code_ran == "no":
            return self.accuracy_of(Reference(model))
        with tempfile.TemporaryDirectory(prefix="gcompile-") as folder:
            code, name = self.code(model), self.job.context.target.name
            write_artifact(
                {name: code}, Path(folder), model_name=self.job.model_name, with_model=False
            )
            return self.accuracy_of(self.job.executor.open(Path(folder), name, model))

    def screened_accuracy(self, model: ir.Model) -> float:
        """The task metric of the model in the reference runtime, which needs no code."""
        return self.accuracy_of(Reference(model))

    def accuracy_of(self, execution: Execution) -> float:
        """The task metric of compiled code on the evaluation rows."""
        rows = self._evaluation
        return self.job.metric(execution.joined(rows), _labels(rows))

    def reference_accuracy(self) -> float:
        """The task metric of the model as given, run by the reference runtime."""
        rows = self._evaluation
        return self.job.metric(self.optimized(self.reference, rows.inputs), _labels(rows))

    def compare_accuracy(self, execution: Execution, reference: float | None) -> Accuracy | None:
        """The accuracies for the report; None without evaluation rows."""
        if self.job.evaluation is None:
            return None
        return Accuracy(
            metric=self.job.metric_name,
            reference=self.reference_accuracy() if reference is None else reference,
            compiled=self.accuracy_of(execution),
            rows=self.job.evaluation.count,
            max_drop=self.job.max_drop,
        )

    def fidelity(self, execution: Execution) -> Fidelity | None:
        """How close the outputs stay to the model as given.

        None without calibration rows, or where the data decides how many elements there are.
        """
        if self.job.calibration is None or ir.counts_of(self.reference):
            return None
        rows = self.job.calibration.first(_FIDELITY_ROWS)
        expected = self.optimized(self.reference, rows.inputs)
        actual = execution.joined(rows)
        return Fidelity(
            sqnr_db=signal_to_noise_db(expected, actual),
            cosine=cosine(expected, actual),
            rows=rows.count,
        )

    def verify(self, execution: Execution, stage: Stage) -> Verify:
        """Hold compiled code against the reference runtime running the same graph.

        Raises:
            VerificationError: They differ by more than the passes allow.
        """
        tolerance = tolerance_for(stage.model, stage.numerics)
        if execution.code_ran == "no":
            reason = self.job.executor.why_not_here
            return Verify(tolerance=tolerance, rows=0, code_ran="no", reason=reason)
        reference = OnnxRuntime()
        run_reference = partial(reference, stage.model)
        is_lossy = Numerics.LOSSY in stage.numerics
        batches = self._verification_batches(stage.model)
        ir.give_back_all(stage.model)
        computed = iter(execution.outputs(batches))  # `verify_outputs` asks in this order.
        agreement = verify_outputs(
            lambda batch: next(computed),
            run_reference,
            batches,
            tolerance,
            Noise.of_quantizing(lambda batch: self.optimized(self.reference, batch))
            if is_lossy
            else Noise.of_rounding(run_reference, self.job.context.seed),
            saturating_outputs(stage.model),
            frozenset(name for name, axis, count in ir.counts_of(stage.model)),
        )
        return Verify(
            max_abs_error=agreement.max_abs_error,
            cosine=agreement.cosine,
            tolerance=agreement.tolerance,
            rows=agreement.rows,
            code_ran=execution.code_ran,
            reason=self.job.executor.why_not_here or None,
        )

    def _verification_batches(self, model: ir.Model) -> list[Arrays]:
        rows = self.job.calibration
        if rows is None:
            return [seeded_inputs(model, self.job.context.seed)]
        return list(single_inferences(rows.first(_VERIFIED_ROWS)))

    @property
    def _evaluation(self) -> Dataset:
        assert self.job.evaluation is not None
        return self.job.evaluation


def _labels(rows: Dataset) -> Array:
    assert rows.labels is not None
    return rows.labels
