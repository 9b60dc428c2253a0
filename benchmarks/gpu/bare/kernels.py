"""Every kernel of the project by itself: what it writes against what it wrote without a GPU."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.bare.case import AbsentError
from benchmarks.gpu.bare.compare import compare_kernel
from benchmarks.gpu.bare.worker import Item
from gcompile.runtime.cuda.driver import Driver, driver
from gcompile.runtime.cuda.one_launch import launch_once
from gcompile.runtime.cuda.plan import Code, Format, PlannedKernel


def kernel_items(settings: dict[str, Any], folder: Path, device: int) -> Iterator[Item]:
    """One item for each launch that was recorded: see `benchmarks.gpu.launches`."""
    stem = folder / settings["stem"]
    images = stem.with_suffix(".bin").read_bytes()
    found = driver()
    with np.load(stem.with_suffix(".npz")) as arrays:
        for check in json.loads(stem.with_suffix(".json").read_text(encoding="utf-8")):
            yield check["name"], partial(_run, check, images, arrays, found, device)


def _run(
    check: dict[str, Any], images: bytes, arrays: Any, found: Driver, device: int
) -> dict[str, Any]:
    what = check["kernel"]
    kernel = PlannedKernel(
        what["name"], tuple(what["grid"]), tuple(what["block"]), what["shared_bytes"]
    )
    before = [arrays[key] for key in check["before"]]
    image = _image(check["codes"], images, found, device)
    after = launch_once(found, device, image, kernel, before)
    figures: dict[str, Any] = {}
    for place, (key, dtype) in sorted(check["after"].items()):
        for name, value in compare_kernel(after[int(place)], arrays[key], dtype).items():
            figures[name] = max(value, figures.get(name, value))
    return figures


def _image(codes: list[dict[str, Any]], images: bytes, found: Driver, device: int) -> bytes:
    """The machine code for this GPU, else PTX for an older one.

    Raises:
        AbsentError: The kernel has code for other architectures alone.
    """
    gpu = found.device(device)
    best = None
    for item in codes:
        format_: Format = item["format"]
        code = Code("", format_, item["arch"], ((item["start"], item["size"]),))
        rank = (format_ == "cubin", code.arch)
        if code.runs_on(gpu.major, gpu.minor) and (best is None or rank > best[0]):
            best = rank, code.spans[0]
    if best is None:
        held = ", ".join(sorted({f"sm_{item['arch']}" for item in codes}))
        raise AbsentError(f"the archive has it for {held} only")
    start, size = best[1]
    return images[start : start + size]
