"""How far sums in fp16 are off, when they are added in fp32 after a few products.

AVX512-FP16 multiplies and adds in fp16: each step rounds to 11 bits. Chains of `steps` such
additions are emulated, one rounding for each, and added up in fp32. Errors are in units of 2^-11
of the largest output, where rounding the outputs to fp16 is off by half a unit at most.

    python -m benchmarks.fp16_sums
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

STEPS = (4, 8, 16, 64)
DEPTHS = (64, 576, 2304)
ROWS, COLUMNS = 256, 64


def chained_sums(x: Array, weights: Array, steps: int) -> Array:
    """(rows, depth) by (columns, depth), in chains of so many fused multiply-adds in fp16."""
    total = np.zeros((len(x), len(weights)), np.float32)
    for start in range(0, x.shape[1], steps):
        chain = np.zeros(total.shape, np.float16)
        for k in range(start, min(start + steps, x.shape[1])):
            # float64 holds the product and the sum: one rounding remains.
            exact = chain.astype(np.float64) + np.outer(x[:, k], weights[:, k]).astype(np.float64)
            chain = exact.astype(np.float16)
        total += chain.astype(np.float32)
    return total


def errors(depth: int, scale: float, steps: int) -> tuple[float, float]:
    """The largest error and the root mean square, in units of 2^-11 of the largest output.

    Args:
        depth: Products of a sum.
        scale: Of activations and weights: small products are subnormal in fp16.
        steps: Products between two additions in fp32.
    """
    rng = np.random.default_rng(depth)
    x = (np.maximum(rng.standard_normal((ROWS, depth)), 0) * scale).astype(np.float16)
    weights = (rng.standard_normal((COLUMNS, depth)) * scale).astype(np.float16)
    x, weights = x.astype(np.float64), weights.astype(np.float64)
    exact = x @ weights.T
    off = np.abs(chained_sums(x, weights, steps) - exact) / np.abs(exact).max() * 2.0**11
    return float(off.max()), float(np.sqrt((off**2).mean()))


def main() -> None:
    """Print a line for every depth and scale: the largest error and the root mean square."""
    print("| depth | scale |", " | ".join(f"{steps} steps" for steps in STEPS), "|")
    print("|---" * (2 + len(STEPS)) + "|")
    for depth in DEPTHS:
        for scale in (1.0, 2.0**-4, 2.0**-8):
            cells = (errors(depth, scale, steps) for steps in STEPS)
            line = " | ".join(f"{largest:.2f}, {mean:.2f}" for largest, mean in cells)
            print(f"| {depth} | {scale:g} | {line} |")


if __name__ == "__main__":
    main()
