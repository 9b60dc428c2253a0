"""Named ways to quantize: how much is tried before a model is believed to be at its best."""

from __future__ import annotations

from enum import StrEnum

from gcompile.passes.base import Pass
from gcompile.passes.precision.affine import WeightRange
from gcompile.passes.precision.equalize_layers import EqualizeLayers
from gcompile.passes.precision.quantize_static import QuantizeStatic
from gcompile.passes.precision.ranges import RangeMethod
from gcompile.passes.precision.rounding import Rounding
from gcompile.passes.precision.smooth_activations import SmoothActivations


class Preset(StrEnum):
    """How integers are arrived at.

    `fast` quantizes once. `balanced` tries several calibrations and takes the one whose outputs
    move least on calibration rows. `best` tries channels scaled in several ways before, and
    rounds weights by the Gram matrix after.
    """

    FAST = "fast"
    BALANCED = "balanced"
    BEST = "best"

    @property
    def calibrations(self) -> tuple[QuantizeStatic, ...]:
        """What is tried for every choice of precisions."""
        match self:
            case Preset.FAST:
                return _CALIBRATIONS[:1]
            case Preset.BALANCED:
                return _CALIBRATIONS
            case Preset.BEST:
                return *_CALIBRATIONS, QuantizeStatic(calibration=RangeMethod.MEAN_MINMAX)

    @property
    def preparations(self) -> tuple[tuple[Pass, ...], ...]:
        """What is tried once, on the float model, beside leaving it as it is."""
        return _PREPARATIONS if self is Preset.BEST else ()

    @property
    def rounding(self) -> Rounding:
        """How the weights of the best calibration are rounded."""
        return Rounding.GRAM if self is Preset.BEST else Rounding.NEAREST


_CALIBRATIONS = (
    QuantizeStatic(calibration=RangeMethod.MINMAX),
    QuantizeStatic(calibration=RangeMethod.MSE),
    QuantizeStatic(calibration=RangeMethod.PERCENTILE),
    QuantizeStatic(calibration=RangeMethod.MSE, weights=WeightRange.MSE),
)

_PREPARATIONS = (
    (EqualizeLayers(),),
    (SmoothActivations(alpha=0.25),),
    (SmoothActivations(alpha=0.5),),
    (SmoothActivations(alpha=0.75),),
)
