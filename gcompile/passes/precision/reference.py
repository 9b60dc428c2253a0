"""The float model on calibration rows: what quantized versions of it are compared with."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from gcompile import ir
from gcompile.passes.base import Arrays, Runner
from gcompile.passes.precision.affine import StoredWeight, WeightRange
from gcompile.passes.precision.input_means import Read, Reals, observe_input_means
from gcompile.passes.precision.run_rows import batches, run_rows

_INFERENCES = 64


@dataclass
class Reference:
    """Runs the float model once for all versions; several threads may ask at once.

    Attributes:
        model: The float model; regions, nodes and values keep their names in its versions.
        calibration: Rows of its inputs.
        run: Runs a model on rows.
        weights: Quantized weights, by their names, which versions share.
    """

    model: ir.Model
    calibration: Arrays
    run: Runner
    weights: dict[tuple[str, WeightRange], StoredWeight] = field(default_factory=dict, repr=False)
    _means: dict[Read, Reals] = field(default_factory=dict, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    @cached_property
    def rows(self) -> Arrays:
        """The rows that outputs are compared on, at most 64 inferences."""
        return next(batches(self.calibration, self.model, _INFERENCES))

    @property
    def expected(self) -> Mapping[str, ir.Array]:
        """The outputs of the float model on `rows`."""
        with self._lock:
            return self._expected

    def input_means(self, wanted: Iterable[Read]) -> dict[Read, Reals]:
        """What `observe_input_means` finds; what is known already is not observed again."""
        with self._lock:
            listed = list(dict.fromkeys(wanted))
            missing = [read for read in listed if read not in self._means]
            self._means |= observe_input_means(self.model, missing, self.calibration, self.run)
            return {read: self._means[read] for read in listed}

    @cached_property
    def _expected(self) -> Mapping[str, ir.Array]:
        return run_rows(self.model, self.rows, self.run)
