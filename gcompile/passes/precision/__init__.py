"""Number formats: which regions compute in what, and the conversions between them."""

from gcompile.passes.precision.affine import WeightRange
from gcompile.passes.precision.assign_precisions import (
    Choice,
    assign_precisions,
    observe_ranges,
    observe_reference,
)
from gcompile.passes.precision.convert_bfloat16 import ConvertBfloat16
from gcompile.passes.precision.convert_float16 import ConvertFloat16
from gcompile.passes.precision.eligibility import candidates, product_regions, why_not
from gcompile.passes.precision.emulate_format import EmulateFormat
from gcompile.passes.precision.equalize_layers import EqualizeLayers
from gcompile.passes.precision.formats import NumberFormat
from gcompile.passes.precision.output_error import normalised_error, of_one_size
from gcompile.passes.precision.presets import Preset
from gcompile.passes.precision.quantize_static import QuantizeStatic
from gcompile.passes.precision.ranges import Histogram, RangeMethod
from gcompile.passes.precision.reference import Reference
from gcompile.passes.precision.rounding import Rounding
from gcompile.passes.precision.smooth_activations import SmoothActivations
from gcompile.passes.precision.widen_float16 import WidenFloat16

__all__ = [
    "Choice",
    "ConvertBfloat16",
    "ConvertFloat16",
    "EmulateFormat",
    "EqualizeLayers",
    "Histogram",
    "NumberFormat",
    "Preset",
    "QuantizeStatic",
    "RangeMethod",
    "Reference",
    "Rounding",
    "SmoothActivations",
    "WeightRange",
    "WidenFloat16",
    "assign_precisions",
    "candidates",
    "normalised_error",
    "observe_ranges",
    "observe_reference",
    "of_one_size",
    "product_regions",
    "why_not",
]
