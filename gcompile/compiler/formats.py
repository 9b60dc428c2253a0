"""Names of precisions and presets, held against what a target has."""

from __future__ import annotations

from gcompile import ir
from gcompile.errors import UsageError
from gcompile.passes.precision import NumberFormat, Preset
from gcompile.targets import Target

PRECISIONS = (ir.Precision.FP32, ir.Precision.BF16, ir.Precision.INT8)
"""What a search may choose."""

SEARCHED = (ir.Precision.FP32, ir.Precision.FP16, ir.Precision.BF16, ir.Precision.INT8)
"""The same with fp16, where that costs no more than bf16: it is eight times as fine."""

ASKED = (*PRECISIONS, ir.Precision.FP16)
"""What all regions may be asked to compute in."""

_FORMATS = frozenset({*ir.Precision, *NumberFormat, "tf32", "int4"})
"""Names of formats, whether or not anything here computes in them."""


def check_format(name: str) -> None:
    """Refuse what is not the name of a number format, on whatever target."""
    if name not in _FORMATS:
        known = ", ".join(ASKED)
        raise UsageError(f"Unknown precision {name!r:.40}. Known precisions: {known}.")


def parse_precision(name: ir.Precision | str, target: Target) -> ir.Precision:
    """Read the name of a precision that there is a code generator for.

    Raises:
        UsageError: Listing those of the target, where it is a format that it lacks.
    """
    check_format(name)
    found = available(name, target)
    if found not in ASKED:
        raise UsageError(
            f"Target {target.name!r} computes in {found}, but gcompile has code for "
            f"{', '.join(p for p in ASKED if p in target.precisions)} alone there; "
            f"`gcompile estimate --precision {found}` says what it would cost."
        )
    return found


def available(precision: ir.Precision | str, target: Target) -> ir.Precision:
    """The precision, which the target must have a unit for.

    Raises:
        UsageError: Listing those it has.
    """
    if precision not in target.precisions:
        raise UsageError(
            f"Target {target.name!r} does not compute in {precision}. It computes in: "
            f"{', '.join(target.precisions)}."
        )
    return ir.Precision(precision)


def parse_preset(name: Preset | str) -> Preset:
    """Read a quantization preset by its name."""
    if name not in list(Preset):
        raise UsageError(f"Unknown quantization {name!r:.40}. Known are: {', '.join(Preset)}.")
    return Preset(name)


def candidates(target: Target, *, has_rows: bool) -> tuple[ir.Precision, ...]:
    """What a search may choose on a target; without calibration rows, floats of any range."""
    if not has_rows:
        return PRECISIONS[:2]
    return tuple(p for p in SEARCHED if p is not ir.Precision.FP16 or _beats_bf16(target))


def _beats_bf16(target: Target) -> bool:
    """Say whether a CPU computes in fp16 at least as fast as in bf16. GPUs have both alike."""
    halves = ir.Precision.FP16, ir.Precision.BF16
    if target.kind != "cpu" or ir.Precision.FP16 not in target.precisions:
        return False
    fp16, bf16 = (target.unit_for(precision) for precision in halves)
    return fp16.peak_ops_per_s * fp16.efficiency >= bf16.peak_ops_per_s * bf16.efficiency
