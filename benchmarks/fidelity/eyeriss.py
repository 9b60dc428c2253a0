"""The Eyeriss breakdown that Timeloop publishes, against the row-stationary model.

    python -m benchmarks.fidelity.eyeriss

The layer is the one of the reference outputs of Timeloop's `eyeriss_like` design: 3x3, stride 2,
3 to 32 channels, 112 by 112 outputs. Accesses and energy are derived from the layer and from the
published mapping; the last column shows the mapping that gcompile chooses instead.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from gcompile.energy.spatial import Accesses, Mapping, accesses, choose_mapping
from gcompile.energy.spatial.row_stationary import movement
from gcompile.ir import Contraction
from gcompile.targets import Target, load_target

LAYER = Contraction(
    batch=1, in_h=224, in_w=224, in_c=3, out_h=112, out_w=112, out_c=32, kernel_h=3, kernel_w=3,
    stride_h=2, stride_w=2, pad_top=1, pad_left=1, pad_bottom=1, pad_right=1,
)  # fmt: skip

PUBLISHED_MAPPING = Mapping(
    kernel_columns=3, channels_across=3, pixels_across=14, outputs_across=1, channels_held=1,
    outputs_held=8, tile_rows=14, tile_columns=4,
)  # fmt: skip

PUBLISHED = {
    "mac": (10_838_016, 207.69),
    "sums": (18_063_360, 386.77),
    "weights": (11_031_552, 1006.69),
    "inputs": (12_192_768, 112.37),
    "buffer": (1_913_456, 375.27),
    "DRAM": (572_528, 3380.86),
}
"""Accesses, and fJ per multiply-accumulate, by component (Timeloop's reference outputs,
Accelergy-Project/timeloop-accelergy-exercises, revision 2d55108). Its network takes nothing."""


@dataclass(frozen=True)
class Row:
    """One component: accesses and fJ per multiply-accumulate."""

    name: str
    published_accesses: int
    accesses: float
    published_fj: float
    predicted_fj: float
    chosen_fj: float

    @property
    def error(self) -> float:
        """Relative error of the energy."""
        return self.predicted_fj / self.published_fj - 1


def rows() -> list[Row]:
    """Predict every component of the published breakdown."""
    target = load_target("eyeriss-like")
    found = accesses(LAYER, PUBLISHED_MAPPING)
    energy = breakdown_fj(found, target)
    chosen = breakdown_fj(accesses(LAYER, choose_mapping(LAYER, target)), target)
    counts = _counts(found)
    return [
        Row(name, published, counts[name], femtojoules, energy[name], chosen[name])
        for name, (published, femtojoules) in PUBLISHED.items()
    ]


def breakdown_fj(found: Accesses, target: Target) -> dict[str, float]:
    """Return fJ per multiply-accumulate by component."""
    joules = {"mac": found.macs * 2 * target.units[0].op_j} | movement(found, target)
    return {name: value / found.macs * 1e15 for name, value in joules.items()}


def report(found: list[Row]) -> str:
    """Lay the components out as a table."""
    lines = [f"{'component':12}{'accesses':>14}{'published':>14}{'fJ/MAC':>10}{'published':>11}"
             f"{'error':>8}{'own mapping':>13}"]  # fmt: skip
    lines += [
        f"{row.name:12}{row.accesses:14,.0f}{row.published_accesses:14,}"
        f"{row.predicted_fj:10.1f}{row.published_fj:11.1f}{row.error:+8.1%}"
        f"{row.chosen_fj:13.1f}"
        for row in found
    ]
    total, published, chosen = (
        sum(getattr(row, key) for row in found)
        for key in ("predicted_fj", "published_fj", "chosen_fj")
    )
    lines.append(
        f"{'total':12}{'':28}{total:10.1f}{published:11.1f}{total / published - 1:+8.1%}"
        f"{chosen:13.1f}"
    )
    return "\n".join(lines)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    print(report(rows()))


def _counts(found: Accesses) -> dict[str, float]:
    return {
        "mac": found.macs,
        "sums": found.sum_reads + found.sum_writes,
        "weights": found.weight_reads + found.weight_writes,
        "inputs": found.input_reads + found.input_writes,
        "buffer": found.buffer_reads + found.buffer_writes,
        "DRAM": found.dram_weights + found.dram_inputs + found.dram_outputs,
    }


if __name__ == "__main__":
    main()
