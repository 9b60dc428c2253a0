"""Make integers of a point in the ways of every preset, and see which suits the task best.

The calibration with which the outputs move least is not always the most accurate one on labelled
rows, nor is that of a preset that tries more. Where there are rows with labels, the reference
runtime tells without any code being built.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from gcompile import ir
from gcompile.passes.precision import Preset, QuantizeStatic, Rounding
from gcompile.search.journal import Journal, name_of
from gcompile.search.point import Evaluate, Point, Realize

_MOST = 96
_OPERATIONS = 1e14
_INFERENCES = 1000
"""So many ways are looked at in all, or as many as bounded work allows."""


def ways_of_all_presets(own: QuantizeStatic) -> list[QuantizeStatic]:
    """How the presets make integers, and how other quantizers correct biases, besides `own`."""
    calibrations = Preset.BEST.calibrations
    found = [
        *calibrations,
        replace(own, rounding=Rounding.GRAM),
        *(replace(each, channel_means=True) for each in calibrations),
    ]
    return [each for each in dict.fromkeys(found) if each != own]


@dataclass
class Recalibration:
    """Looks for better ways to quantize points.

    Attributes:
        model: The float model.
        realize: Makes a choice real.
        prepared: Does so from the model rewritten for integers, with the same regions; None where
            no rewrite helps. It prunes nothing.
        screen: Runs a model on the evaluation rows without building code.
        goes_on: Whether there is time.
    """

    model: ir.Model
    realize: Realize
    prepared: Realize | None
    screen: Evaluate
    journal: Journal
    goes_on: Callable[[], bool]
    looks: int = 0

    def better(self, point: Point, evaluate: Evaluate) -> Point | None:
        """The way that promises to be most accurate, for no more joules, as it is measured.

        None where none promises to beat the point.
        """
        ways = self._ways(point)
        name, found = max(ways, key=lambda way: way[1].accuracy or 0.0, default=("", point))
        if (found.accuracy or 0.0) <= (point.accuracy or 0.0):
            return None
        accuracy = self.journal.get(f"accuracy {name}", lambda: evaluate(found.model))
        return replace(found, accuracy=accuracy)

    def _ways(self, point: Point) -> Iterator[tuple[str, Point]]:
        """A name for each way, and the point made so, with the accuracy that it promises."""
        if ir.Precision.INT8 not in point.choice.values():
            return
        tried = [("", self.realize, o) for o in ways_of_all_presets(point.options)]
        if self.prepared is not None and not point.pruned:
            ways = [point.options, *ways_of_all_presets(point.options)]
            tried += [("prepared ", self.prepared, options) for options in ways]
        for kind, realize, options in tried:
            if self._is_over():
                return
            self.looks += 1
            made = realize(point.choice, options)
            if made.estimate.total.energy_j > point.energy_j * (1 + 1e-3):
                continue
            way = f"of a way {kind}{name_of(point.choice, options)}"
            if f"screened {way}" not in self.journal.known:
                self.journal.put(f"screened {way}", self.screen(made.model))
            promised = self.journal.known[f"screened {way}"]
            yield (
                way,
                replace(
                    point, options=options, model=made.model, estimate=made.estimate, error=None,
                    accuracy=promised,
                ),
            )  # fmt: skip

    def _is_over(self) -> bool:
        operations = sum(ir.work_of(region).product_ops for region in ir.regions(self.model.graph))
        most = min(_MOST, _OPERATIONS / max(operations * _INFERENCES, 1))
        return self.looks >= most or not self.goes_on()
