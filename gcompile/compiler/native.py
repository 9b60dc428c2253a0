"""Build code to measure it: every accuracy a search sees is that of the compiled model."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gcompile import ir, runtime
from gcompile.backends.onnxruntime import OnnxRuntime, Optimization
from gcompile.backends.tvm.build import NativeCode, generate, write_artifact
from gcompile.backends.verify import Agreement, seeded_inputs, tolerance_for, verify_outputs
from gcompile.compiler.job import Job
from gcompile.compiler.stages import Stage
from gcompile.passes import Arrays, Numerics
from gcompile.report import Accuracy, Fidelity
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
    last: tuple[ir.Model, NativeCode] | None = field(default=None, repr=False)

    def code(self, model: ir.Model) -> NativeCode:
        """Generate code for a model, unless it is the last one that was measured."""
        if self.last is None or self.last[0] is not model:
            ctx = self.job.context
            self.last = model, generate(model, ctx.target, ctx.threads, self.job.store)
        return self.last[1]

    def accuracy(self, model: ir.Model) -> float:
        """Build the model and measure the task metric on the evaluation rows."""
        with tempfile.TemporaryDirectory(prefix="gcompile-") as folder:
            write_artifact(
                self.code(model), Path(folder), model_name=self.job.model_name, with_model=False
            )
            return self.accuracy_of(runtime.load(folder))

    def accuracy_of(self, runner: runtime.Runner) -> float:
        """The task metric of compiled code on the evaluation rows."""
        rows = self._evaluation
        return self.job.metric(run_rows(runner, rows), _labels(rows))

    def reference_accuracy(self) -> float:
        """The task metric of the model as given, run by the reference runtime."""
        rows = self._evaluation
        return self.job.metric(self.optimized(self.reference, rows.inputs), _labels(rows))

    def compare_accuracy(self, runner: runtime.Runner, reference: float | None) -> Accuracy | None:
        """The accuracies for the report; None without evaluation rows."""
        if self.job.evaluation is None:
            return None
        return Accuracy(
            metric=self.job.metric_name,
            reference=self.reference_accuracy() if reference is None else reference,
            compiled=self.accuracy_of(runner),
            rows=self.job.evaluation.count,
            max_drop=self.job.max_drop,
        )

    def fidelity(self, runner: runtime.Runner) -> Fidelity | None:
        """How close the outputs stay to the model as given; None without calibration rows."""
        if self.job.calibration is None:
            return None
        rows = self.job.calibration.first(_FIDELITY_ROWS)
        expected = self.optimized(self.reference, rows.inputs)
        actual = run_rows(runner, rows)
        return Fidelity(
            sqnr_db=signal_to_noise_db(expected, actual),
            cosine=cosine(expected, actual),
            rows=rows.count,
        )

    def verify(self, runner: runtime.Runner, stage: Stage) -> Agreement:
        """Hold compiled code against the reference runtime running the same graph.

        Raises:
            VerificationError: They differ by more than the passes allow.
        """
        reference = OnnxRuntime()
        is_lossy = Numerics.LOSSY in stage.numerics
        return verify_outputs(
            runner.run,
            lambda batch: reference(stage.model, batch),
            self._verification_batches(stage.model),
            tolerance_for(stage.model, stage.numerics),
            (lambda batch: self.optimized(self.reference, batch)) if is_lossy else None,
        )

    def _verification_batches(self, model: ir.Model) -> list[Arrays]:
        rows = self.job.calibration
        if rows is None:
            return [seeded_inputs(model, self.job.context.seed)]
        return list(_inferences(rows.first(_VERIFIED_ROWS)))

    @property
    def _evaluation(self) -> Dataset:
        assert self.job.evaluation is not None
        return self.job.evaluation


def run_rows(runner: runtime.Runner, rows: Dataset) -> dict[str, Array]:
    """Run every inference of the rows; outputs are joined along axis 0, as the reference does."""
    found = [runner.run(inputs) for inputs in _inferences(rows)]
    return {
        name: np.concatenate([np.atleast_1d(outputs[name]) for outputs in found])
        for name in found[0]
    }


def _inferences(rows: Dataset) -> Iterator[Arrays]:
    """The inputs of one inference after the other."""
    for index in range(rows.count):
        yield rows.between(index, index + 1).inputs


def _labels(rows: Dataset) -> Array:
    assert rows.labels is not None
    return rows.labels
