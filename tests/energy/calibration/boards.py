"""Small boards whose true costs are known, and tiny networks to measure on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from gcompile import ir
from gcompile.compiler.calibrate import exact_regions, observe
from gcompile.energy.calibration import TERMS, MeasuredRow, Observation
from gcompile.energy.calibration.prior import prior_of
from gcompile.targets import load_target
from tests.energy.models import with_constants

BASE = load_target("generic-arm64")
SHAPES = tuple((size, width) for size in (16, 24, 32, 48) for width in (8, 16, 32))
"""Image sizes and channels of the networks."""


def separable(size: int, width: int) -> ir.Model:
    """A convolution, a depthwise and a pointwise one, pooling and a classifier."""
    half = size // 2
    return with_constants(
        f"g (float[1,3,{size},{size}] x, float[{width},3,3,3] w0, float[{width},1,3,3] w1,"
        f" float[{2 * width},{width},1,1] w2, float[{2 * width},10] w3) => (float[1,10] y) {{\n"
        "a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w0)\n b = Relu(a)\n"
        f"c = Conv<pads=[1,1,1,1], group={width}>(b, w1)\n d = Relu(c)\n"
        f"e = Conv(d, w2)\n f = Relu(e)\n p = AveragePool<kernel_shape=[{half},{half}]>(f)\n"
        "q = Flatten(p)\n y = MatMul(q, w3) }"
    )


def residual(size: int, width: int) -> ir.Model:
    """Two dense convolutions around a skip connection: another family."""
    return with_constants(
        f"g (float[1,{width},{size},{size}] x, float[{width},{width},3,3] w0,"
        f" float[{width},{width},3,3] w1) => (float[1,{width},{size},{size}] y) {{\n"
        "a = Conv<pads=[1,1,1,1]>(x, w0)\n b = Relu(a)\n"
        "c = Conv<pads=[1,1,1,1]>(b, w1)\n d = Add(c, x)\n y = Relu(d) }"
    )


def save_networks(folder: Path) -> dict[str, Path]:
    """Save both families in all sizes; return the files by name."""
    folder.mkdir(exist_ok=True)
    files = {}
    for size, width in SHAPES:
        for build in (separable, residual):
            name = f"{build.__name__}-{size}-{width}"
            files[name] = folder / f"{name}.onnx"
            ir.save(build(size, width), files[name])
    return files


def true_costs(seed: int, precision: ir.Precision = ir.Precision.FP32) -> dict[str, float]:
    """Draw a board: joules per unit of each term, around what boards are like."""
    prior = prior_of(precision)
    shares = np.random.default_rng(seed).lognormal(0, 0.3, len(TERMS))
    return dict(zip(TERMS, 0.3 * prior.mean * shares, strict=True))


def counted(files: dict[str, Path], precision: ir.Precision) -> dict[str, Observation]:
    """Count each network; its row is one joule until `measured` says otherwise."""
    return {
        name: observe(MeasuredRow(name, 1.0, precision=precision), exact_regions(file, 1, BASE))
        for name, file in files.items()
    }


def measured(
    networks: dict[str, Observation], costs: dict[str, float], noise: float = 0.0, seed: int = 0
) -> list[Observation]:
    """Measure every network on a board with these costs and this relative noise."""
    rng = np.random.default_rng(seed)
    found = []
    for network in networks.values():
        joules = sum(amount * costs[term] for term, amount in network.amounts.items())
        joules *= 1 + noise * rng.standard_normal()
        row = dataclasses.replace(network.row, energy_j=joules, time_s=joules / 5)
        found.append(dataclasses.replace(network, row=row))
    return found
