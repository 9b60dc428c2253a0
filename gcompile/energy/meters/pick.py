"""Choose a meter: the one that was asked for, or the first that works."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, get_args

from gcompile.energy.meters.analyser import AnalyserMeter, LogOptions
from gcompile.energy.meters.meter import Boundary, Meter
from gcompile.energy.meters.nvml import NvmlMeter
from gcompile.energy.meters.rapl import RaplMeter
from gcompile.energy.meters.zeus import ZeusMeter
from gcompile.errors import MeterError, UnknownNameError, UsageError
from gcompile.targets import Target

METERS = ("rapl", "nvml", "zeus", "csv:FILE")
"""What may be asked for."""

_CSV = "csv:"
_CSV_EXAMPLE = "Write it as csv:power.csv, or csv:power.csv,offset=0.35,boundary=wall,wait=60."


def pick_meter(target: Target | None = None, requested: str | None = None, gpu: int = 0) -> Meter:
    """Return a meter that works here.

    Args:
        target: What runs the inference; None stands for this machine's processor.
        requested: `rapl`, `nvml`, `zeus` or `csv:FILE`; None tries all that need no file.
        gpu: Which NVIDIA GPU, as the CUDA driver counts.

    Raises:
        UsageError: The request cannot be read.
        MeterError: None works; the message lists each with its reason.
    """
    if target is not None and target.kind == "accelerator":
        raise MeterError(
            f"Target {target.name} is described for estimates only: there is nothing to measure. "
            "Compile for a device that exists."
        )
    reasons = []
    for meter in _candidates(target, requested, gpu):
        reason = meter.why_unavailable()
        if reason is None:
            return meter
        reasons.append(f"{meter.name}: {reason.rstrip('.')}")
    advice = "" if requested else "; an external analyser's log works anywhere (--meter csv:FILE)"
    raise MeterError(f"Energy cannot be measured here. {'; '.join(reasons)}{advice}.")


def parse_meter(text: str, device: Literal["cpu", "gpu"] = "cpu", gpu: int = 0) -> Meter:
    """Read `rapl`, `nvml`, `zeus` or `csv:FILE[,offset=S][,boundary=wall][,wait=S]`.

    Raises:
        UsageError: It is none of them.
    """
    if text.startswith(_CSV):
        return _analyser(text.removeprefix(_CSV))
    if text == "rapl":
        return RaplMeter()
    if text == "nvml":
        return NvmlMeter(gpu)
    if text == "zeus":
        return ZeusMeter(device)
    raise UnknownNameError("meter", text, METERS)


def _candidates(target: Target | None, requested: str | None, gpu: int) -> tuple[Meter, ...]:
    device: Literal["cpu", "gpu"] = "gpu" if target and target.kind == "gpu" else "cpu"
    if requested is not None:
        return (parse_meter(requested, device, gpu),)
    if device == "gpu":
        return NvmlMeter(gpu), ZeusMeter("gpu")
    return RaplMeter(), ZeusMeter("cpu")


def _analyser(text: str) -> AnalyserMeter:
    path, *settings = text.split(",")
    values: dict[str, str] = {}
    for setting in settings:
        key, found, value = setting.partition("=")
        if not found or key not in ("offset", "boundary", "wait") or key in values:
            raise UsageError(f"Meter csv:{text!r:.80} has the part {setting!r}. {_CSV_EXAMPLE}")
        values[key] = value
    if not path:
        raise UsageError(f"Meter csv: names no file. {_CSV_EXAMPLE}")
    wait_s = _seconds(values.get("wait", "5"), least=0.0)
    options = LogOptions(
        offset_s=_seconds(values.get("offset", "0"), least=-math.inf),
        boundary=_boundary(values.get("boundary", "wall")),
        wait_s=wait_s,
        may_start_late="wait" in values,
    )
    return AnalyserMeter(Path(path), options)


def _seconds(text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < least:
        raise UsageError(f"{text!r:.40} is not a number of seconds. {_CSV_EXAMPLE}")
    return value


def _boundary(text: str) -> Boundary:
    for boundary in get_args(Boundary):
        if text == boundary:
            known: Boundary = boundary
            return known
    raise UsageError(f"Boundary {text!r:.40} is not chip, board or wall. {_CSV_EXAMPLE}")
